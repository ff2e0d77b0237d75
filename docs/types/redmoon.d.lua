---@meta redmoon
-- SPDX-License-Identifier: MIT
-- Definitions for the Lua language server: everything that `require "redmoon"` offers.
--
-- Failure is `nil, message, code, detail` throughout; a misuse raises. Times are seconds.

---What else is known of a failure: the fourth result.
---@class redmoon.detail
---@field outcome "not_sent"|"answered"|"unknown" whether the command was executed
---@field phase? "pool"|"resolve"|"dial"|"tls"|"handshake"|"send"|"receive"|"backoff" what was going on
---@field retryable boolean the same call may succeed later, and repeating it cannot act twice
---@field address? string
---@field attempts integer
---@field replies? redmoon.replies of a pipeline: how each command ended

---An error inside a list of replies; `redmoon.is_error` knows it.
---@class redmoon.error : redmoon.detail
---@field message string
---@field code string

---@alias redmoon.argument string|number
---@alias redmoon.value string|number|boolean|table|userdata|redmoon.error

---@class redmoon.replies
---@field n integer
---@field [integer] redmoon.value `redmoon.null` for what is absent

---@class redmoon.tls_options
---@field ca_file? string PEM; default: the system's store
---@field ca_path? string directory of hashed PEM files
---@field cert_file? string
---@field key_file? string
---@field server_name? string the name to verify and to send
---@field verify? boolean default true
---@field min_version? "1.2"|"1.3"

---An event loop of your own; see docs/event-loops.md.
---@class redmoon.Loop
---@field wait fun(fd: integer, events: "r", seconds?: number)
---@field forget? fun(fd: integer)
---@field running? fun(): boolean
---@field sleep? fun(seconds: number)
---@field spawn? fun(fn: function, ...: any)
---@field park? fun(key: lightuserdata, seconds: number) with wake: for calls that share connections
---@field wake? fun(key: lightuserdata)
---@field timers? boolean

---@class redmoon.options
---@field username? string
---@field password? string
---@field credentials? fun(): string|nil, string asked at each new connection, instead of username and password
---@field database? integer
---@field pool_size? integer default 20, a hard limit per node
---@field min_idle? integer default 0
---@field max_idle? integer default pool_size
---@field max_idle_time? number default 300; 0: for ever
---@field max_lifetime? number default 3600; 0: for ever
---@field pool_timeout? number default 3
---@field connect_timeout? number default 3, per attempt
---@field read_timeout? number default 2, per attempt
---@field write_timeout? number default 2, per attempt
---@field timeout? number default 10, the whole call
---@field max_retries? integer default 3
---@field min_backoff? number default 0.008
---@field max_backoff? number default 0.512
---@field protocol? 2|3 default 3
---@field client_name? string
---@field tls? redmoon.tls_options
---@field default_ttl? number|false lifetime for client:set without one
---@field key_prefix? string default "redmoon": first part of the keys of all patterns
---@field loop? "blocking"|"cqueues"|"luv"|"copas"|redmoon.Loop
---@field multiplex? boolean default false: many callers share a few connections
---@field max_reply_size? integer default 512 MiB
---@field read_from? "primary"|"replica"|"any"|"nearest" which servers serve reads; with redis+sentinel:// and redis+cluster://
---@field sentinel_username? string of the sentinels, which have users of their own
---@field sentinel_password? string
---@field sentinel_tls? boolean default: as the servers

---@class redmoon.call_options
---@field timeout? number
---@field pool_timeout? number
---@field read_timeout? number
---@field write_timeout? number
---@field max_retries? integer
---@field min_backoff? number
---@field max_backoff? number
---@field idempotent? boolean the caller declares that repeating these calls is harmless

---@class redmoon.set_options
---@field ttl? number|false seconds; false: for ever
---@field nx? boolean only if absent
---@field xx? boolean only if present
---@field get? boolean return the old value
---@field keep_ttl? boolean

---@class redmoon.getex_options
---@field ttl? number|false seconds; false: for ever

---@class redmoon.scan_options
---@field match? string glob
---@field count? integer hint of work per round trip
---@field type? string of keys only

---@class redmoon.transaction_options
---@field max_attempts? integer default 10

---@class redmoon.lock_options
---@field ttl? number default 10, from 0.01 to 86400
---@field wait? number default 0: LOCKED at once; how long to wait for another holder
---@field fair? boolean those who wait with it get the lock in the order in which they asked first
---@field renew? boolean the client's keeper thread prolongs the lease until the release
---@field max_hold? number it is not prolonged beyond this long after it was acquired
---@field on_lost? fun(lock: redmoon.lock) called by an event loop at once; else at the end of the next call of this module after it was lost, or by held()
---@field min_replicas? integer so many replicas must have got it; else UNAVAILABLE
---@field token? string of a lock that the caller holds: it is held once more
---@field request_id? string repeating the call with the same id gives the same lock

---@class redmoon.redlock_options
---@field ttl? number default 10, from 0.01 to the quarantine, to 86400 without one
---@field wait? number default 0; how long to go on asking, while another holds it and while too few servers vote
---@field renew? boolean the keeper thread of the first client prolongs the lease until the release
---@field max_hold? number it is not prolonged beyond this long after it was acquired
---@field on_lost? fun(lock: redmoon.lock) called at the end of the next call of this module after it was lost, or by held()

---@class redmoon.redlock_servers
---@field [integer] redmoon.client 2 to 31, of independent servers
---@field quarantine? number|false default 60: for how long, and 1 s more, a server must have been up for its vote to count; no ttl is longer

---@class redmoon.semaphore_options
---@field permits integer how many there are, from 1 to 100000
---@field ttl? number default 10, from 0.01 to 86400: the lease of a permit
---@field wait? number default 0, to 86400: how long acquire() waits

---@class redmoon.semaphore_request
---@field wait? number instead of the semaphore's
---@field request_id? string who repeats it within 10 minutes gets the same permit

---@class redmoon.rwlock_options
---@field ttl? number default 10, from 0.01 to 86400
---@field wait? number default 0, to 86400

---@class redmoon.cache_options
---@field name string 1 to 64 letters, digits, '.', '_' and '-'; caches of another name share nothing
---@field ttl number from 0.001 to 31622400: how long a value is fresh
---@field negative_ttl? number default 5, or ttl if that is less; 0: absences are not kept
---@field stale_ttl? number default 0: how long a value is kept beyond its ttl
---@field lease? number default 10, from 0.01 to 86400: how long a load may take before another begins one, too
---@field retry_after? number default 0, to 86400: for so long after a load that failed nobody is given the lease
---@field jitter? number default 0.1, to 0.5: how far the TTLs of values differ
---@field early_refresh? number default 1, to 10: the beta of XFetch; 0: off
---@field on_error? "load"|"stale"|"error" default "load": when Redis fails, or the wait for another's load is over
---@field fallback_loads? integer default 8: so many loads at the same time for "load"
---@field max_size? integer default 16 MiB: a larger value is not stored
---@field codec? redmoon.codec default "json"
---@field seal_key? string 32 random bytes: what is stored is encrypted, and bound to its key
---@field tags? boolean default false: values may have tags
---@field compress? integer default 0, never: values of so many bytes or more are compressed

---@class redmoon.cache_set_options
---@field ttl? number instead of the cache's
---@field tags? redmoon.argument[] up to 32, of 1 to 255 bytes; the cache has the option tags

---What a loader may return beside what it found.
---@class redmoon.cache_loaded
---@field tags? redmoon.argument[] what the value, or its absence, depends on: up to 32, of 1 to 255 bytes

---The same of a loader of many.
---@class redmoon.cache_loaded_many
---@field tags? table<redmoon.argument, redmoon.argument[]> by key

---What is known of a value of a cache.
---@class redmoon.cache_info
---@field source "redis"|"loader"|"fallback" fallback: loaded without a lease and not stored
---@field state "hit"|"stale"|"miss" miss: it was loaded (peek: there is nothing)
---@field age number since it was stored
---@field stored? boolean of what was loaded
---@field error? string code of what went wrong, though there is a result

---@class redmoon.rate_limiter_options
---@field algorithm "buckets"|"fixed_window"|"gcra"|"sliding_log"|"sliding_window"
---@field limit integer from 1 to 1000000000; sliding_log: 100000
---@field window? number from 0.001 to 31622400; may be left out with a calendar
---@field name? string default "rl"
---@field burst? integer gcra: most units at one instant; default the limit
---@field calendar? "minute"|"hour"|"day" fixed_window: windows of UTC; else a window starts with its first unit
---@field buckets? integer buckets: parts of a window, 1 to 60; default 10
---@field on_error? "error"|"allow"|"deny" what to say when Redis fails; default "error"
---@field deny_cache? boolean refuse here what is known to be refused; default false

---@class redmoon.rate_request
---@field cost? integer units, from 1 to 1000000000 (sliding_log: 1000); default 1
---@field partial? boolean grant what is free, up to the cost
---@field request_id? string a repetition with the same id gets the answer of the first

---@class redmoon.rate_item
---@field [1] redmoon.argument key
---@field [2]? integer cost, default 1

---When a count ends is said by one of `window`, `calendar` and `ttl`; by none: never.
---@class redmoon.counter_options
---@field window? number from 0.001 to 31622400
---@field mode? "window"|"sliding" of the window: from the first count on, not moved by later ones; or from the last
---@field calendar? "minute"|"hour"|"day"|"month" of UTC: the count begins anew with each
---@field ttl? number the same as a sliding window
---@field min? integer
---@field max? integer
---@field saturate? boolean default false: what is out of bounds changes nothing; true: it is counted as far as they let it

---@class redmoon.request_options
---@field request_id? string 1 to 128 letters, digits, '.', '_' and '-': repeating the call with it is harmless
---@class redmoon.blocklist_options
---@field issuer? string hashed into every key
---@field hash_key? string a secret of 16 to 64 bytes, the same in every process
---@field leeway? number default 60, from 0 to 600: how long after exp a verifier may still accept
---@field max_life? number default 30 days: the longest life of any token of a subject
---@field on_error? "deny"|"allow"|"error" default "deny": what a check says when Redis fails
---@field min_replicas? integer so many replicas must have what a call has written; else UNAVAILABLE, and it stays written

---@class redmoon.revocation
---@field jti string 1 to 1,024 bytes
---@field exp integer seconds since 1970
---@field reason? string a word

---What a verified token says; at least one of jti, sub and family.
---@class redmoon.claims
---@field jti? string
---@field sub? string needs iat
---@field iat? number seconds since 1970
---@field ver? integer what bump() gave when it was issued
---@field family? string

---@class redmoon.rotation
---@field family string what all tokens of one login share
---@field presented? string id of the refresh token presented; nil begins the family
---@field new string id of the new one
---@field ttl number life of the new one
---@alias redmoon.record_type "string"|"integer"|"number"|"boolean"|"time"
---@alias redmoon.record_fields table<string, any>

---@class redmoon.records_options
---@field fields table<string, redmoon.record_type> 1 to 1000; a name does not begin with "_"
---@field ttl? number from 0.001 to 3155760000; without it records live until they are deleted
---@field sliding? boolean a load renews the lifetime, too, when less than 90 % of it is left
---@field keep_ttl? boolean the first write sets the lifetime, later ones keep it
---@field max_age? number from 0.001 to 3155760000; a record ends this long after it was created, whatever renews it
---@field max_value_size? integer most bytes of a string, from 1 to 67108864; 1048576

---@class redmoon.sessions_options : redmoon.records_options
---@field secret string key of the hashes, 16 to 64 random bytes
---@field ttl number from 0.001 to 3155760000

---@class redmoon.record_write
---@field version? integer that the record must have, else CONFLICT; 0: there must be none
---@field request_id? string makes a repetition harmless

---@class redmoon.request_options
---@field request_id? string makes a repetition harmless

---@class redmoon.audit_progress
---@field keys integer counted
---@field pages integer
---@field left? integer estimate; nil: the server does not say how many keys it has
---@field elapsed number of this run
---@field rate number keys scanned per second, in this run
---@field share number estimate of what is done, 0 to 1
---@field pause number between two pages, because the server has slowed down; 0: none

---@class redmoon.audit_options
---@field match? string glob; default: all keys
---@field depth? integer default 1; segments of a prefix, 1 to 8
---@field separator? string default ":"; one byte
---@field sample? number default 0.01; share of keys whose memory is asked for, 0 to 1; of each prefix 30 in any case, unless it is 0
---@field top? integer default 100; prefixes in the report, 1 to 10000; the rest are `other`
---@field min_ttl? number a TTL below it is a violation
---@field max_ttl? number a TTL above it is a violation
---@field require_ttl? boolean default false; true: a key without TTL is a violation
---@field filter_size? integer bytes of memory against keys that SCAN gives twice, 1024 to 2^30; 0: none; default: 10 for each key the server has, 256 KiB to 32 MiB
---@field seed? integer default 0; which keys are sampled
---@field count? integer default 1000; keys for each page, 1 to 10000
---@field max_rate? integer keys per second, 1 to 10000000
---@field processes? integer default 1; how many processes have a pool like this client's: for a warning
---@field on_progress? fun(progress: redmoon.audit_progress, save: fun(): string): boolean? called after each page; `save()` gives the state so far, for `resume`, and is good during the call only; false stops; what it raises ends the audit and goes on to the caller
---@field resume? string a state: what `save()`, `report.state` or a failure's `detail.state` gave. Options from match to seed are the state's; one that is given and differs raises

---Of the keys of one prefix, of several, or of all.
---@class redmoon.audit_group
---@field prefix? string "" for keys without a separator; nil in `other` and `total`
---@field keys integer that were there when they were looked at, each once
---@field keys_missed integer at most so many more of its keys are counted in `other`; 0 unless there were very many prefixes
---@field no_ttl integer keys that live for ever
---@field below_min integer TTLs below min_ttl
---@field above_max integer TTLs above max_ttl
---@field sampled integer keys whose memory the estimate is made of
---@field bytes? number estimate of their memory; nil: nothing was sampled
---@field bytes_low? number 99.9 % interval
---@field bytes_high? number nil: unknown
---@field ttl_p50? number of the keys with TTL; within the bucket of the true value; nil: no key has one
---@field ttl_p99? number
---@field ttl_min? number exact
---@field ttl_max? number
---@field ttl_histogram { from: number, to: number, keys: integer }[] buckets from one power of two (in ms) to the next, without the empty ones at either end
---@field types table<"string"|"list"|"set"|"zset"|"hash"|"stream"|"other", integer> only those that occur
---@field max_cliff number largest share of its keys that expires within one 10-s bucket of the server's clock, 0 to 1
---@field max_cliff_error number it may be larger by so much
---@field max_cliff_keys integer
---@field max_cliff_at? number Unix time at which that bucket begins; nil: no key has a TTL

---@class redmoon.audit_warning
---@field level "note"|"warning"|"violation"
---@field code "ttl_missing"|"ttl_below_min"|"ttl_above_max"|"eviction_policy"|"memory_unlimited"|"maxclients"|"expiry_cliff"|"split_hash"|"node_changed"|"slots_moved"|"partial"|"key_errors"|"repeats_unchecked"|"info_refused"|"memory_refused"
---@field message string fit to show
---@field prefix? string nil: of no prefix
---@field keys? integer how many it is about

---A primary of a cluster.
---@class redmoon.audit_node
---@field address string "host:port"
---@field state "waiting"|"seen"|"left" not scanned to its end; scanned; no primary any more
---@field keys? integer as in `server`, of it alone
---@field keys_end? integer
---@field version? string
---@field maxmemory? integer
---@field used_memory? integer
---@field maxmemory_policy? string
---@field maxclients? integer
---@field connected_clients? integer

---@class redmoon.audit_report
---@field complete boolean to the end
---@field prefixes redmoon.audit_group[] those with most keys first
---@field other? redmoon.audit_group the keys of all other prefixes; nil: there are none
---@field total redmoon.audit_group
---@field warnings redmoon.audit_warning[] violations first, then warnings, then notes
---@field server { keys?: integer, keys_end?: integer, expires?: integer, version?: string, role?: string, maxmemory?: integer, used_memory?: integer, maxmemory_policy?: string, maxclients?: integer, connected_clients?: integer } its own count at the beginning and at the end, and what it says of itself; of a cluster, of all primaries: sums, the least maxclients, the most connected_clients, and "mixed" for a text that is not the same on all
---@field nodes? redmoon.audit_node[] of a cluster: its primaries
---@field pool_size integer of this client
---@field pages integer
---@field gone integer keys that were gone when they were looked at
---@field moved? integer of a cluster: keys that were another node's when they were looked at
---@field errors integer keys that could not be looked at
---@field first_error? string
---@field repeats integer keys that SCAN gave again, and that were not counted again
---@field repeats_false integer at most so many of those were new
---@field unfiltered integer keys counted after the filter was full
---@field prefixes_folded integer how often a prefix was moved to `other` for want of room
---@field state? string of one that was stopped: goes into `resume`

---@class redmoon.audit_fixed
---@field key string
---@field ttl number
---@field expires? number Unix time, by the server's clock; nil in a dry run, and when the answer was lost (`unknown`)
---@field unknown? boolean the answer was lost: it may have got a TTL

---@class redmoon.audit_fix_counts
---@field seen integer keys that matched
---@field fixed integer that got a TTL; in a dry run, that would get one
---@field own integer without TTL, left alone because they are of this client's key_prefix
---@field raced integer got a TTL from elsewhere, or went, before ours came
---@field errors integer the server refused
---@field share number estimate of what is done, 0 to 1

---@class redmoon.audit_fix_options
---@field match string glob. Keys of this client's key_prefix are left alone
---@field ttl number 1 to 31622400
---@field jitter? number default 0.1; each key gets up to this share of the TTL more, 0 to 1
---@field dry_run? boolean default true
---@field count? integer default 1000; keys for each page, 1 to 1000
---@field max_rate? integer keys looked at per second, 1 to 10000000
---@field on_fixed? fun(fixed: redmoon.audit_fixed) called for each key, instead of `keys` in the result
---@field on_progress? fun(counts: redmoon.audit_fix_counts): boolean? called after each page; false stops

---@class redmoon.audit_fix_result : redmoon.audit_fix_counts
---@field complete boolean to the end
---@field keys? redmoon.audit_fixed[] without on_fixed: the undo list

---@class redmoon.embedded_options
---@field dir? string keep data here; else nothing is kept
---@field server? string the program; else redis-server or valkey-server of $PATH
---@field config? redmoon.argument[] more arguments
---@field start_timeout? number default 5

---@class redmoon.stats
---@field hits integer borrows served by an idle connection
---@field misses integer borrows that had to dial
---@field timeouts integer
---@field wait_count integer
---@field wait_time number
---@field total integer
---@field idle integer
---@field in_use integer
---@field waiting integer
---@field subscriptions integer open now, each with a connection beside the pool
---@field dials integer
---@field dial_failures integer
---@field closed { idle: integer, lifetime: integer, peer: integer, dirty: integer, error: integer, failover: integer }

---@class redmoon.node
---@field address string
---@field role "primary"|"replica"|"left"
---@field latency? number of a PING, with read_from "nearest"
---@field stats redmoon.stats of its pool

---@class redmoon.event
---@field kind "command"|"retry"|"connect"|"close"|"redirect"
---@field command? string name, never arguments
---@field address? string
---@field reason? string of a close
---@field duration number
---@field delay number of a retry: the back-off before the next attempt
---@field attempt integer
---@field error? redmoon.error
---@field steps? { resolve: number, dial: number, tls: number, handshake: number } of a connect that succeeded: its duration

---@class redmoon.hook
local hook = {}
---@return true
function hook:close() end
---@return { dropped: integer, errors: integer, queued: integer }
function hook:stats() end

---@class redmoon.script
---@field sha1 string
local script = {}
---@return true
function script:close() end

---What commands are called on: a client, a pipeline or a transaction. Every lower-case name is a command.
---@class redmoon.commands
---@field [string] fun(self, ...: redmoon.argument): redmoon.value?, string?, string?, redmoon.detail?
local commands = {}
---Any command, by name.
---@param name string
---@param ... redmoon.argument
---@return redmoon.value? reply
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function commands:call(name, ...) end
---@param key redmoon.argument
---@return redmoon.value? value
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function commands:get(key) end
---With a condition that is not met: false. With `get`: the old value.
---@param key redmoon.argument
---@param value redmoon.argument
---@param options? redmoon.set_options
---@return redmoon.value? ok
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function commands:set(key, value, options) end
---@param key redmoon.argument
---@param options? redmoon.getex_options
---@return redmoon.value? value
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function commands:getex(key, options) end
---@param code redmoon.script
---@param keys? redmoon.argument[]
---@param args? redmoon.argument[]
---@return redmoon.value? reply
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function commands:run(code, keys, args) end

---Commands return their index into the replies.
---@class redmoon.pipeline : redmoon.commands

---Commands run at once while keys are watched; from multi() on they return their index into the replies.
---@class redmoon.transaction : redmoon.commands
local transaction = {}
---@return true?
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function transaction:multi() end

---An iterator: `for key in scan do`. In a loop an error raises.
---@class redmoon.scan
---@overload fun(): string?, redmoon.value?
local scan = {}
---nil alone at the end.
---@return string? element
---@return redmoon.value? value_or_message
---@return string? code
---@return redmoon.detail? detail
function scan:next() end
---@return true
function scan:close() end

---@class redmoon.lock
---@field token string
---@field fence integer rises over every holder: hand it to the resource
---@field holds integer how often its owner held it when the server answered last; 0 after the last release
local lock = {}
---By the local clock, no round trip.
---@return boolean
function lock:held() end
---@return number seconds
function lock:remaining() end
---@param ttl? number
---@return true?
---@return string? message
---@return string? code LOST when it is held no more, UNAVAILABLE when max_hold allows no more
---@return redmoon.detail? detail
function lock:extend(ttl) end
---@return true?
---@return string? message
---@return string? code LOST when it had been lost
---@return redmoon.detail? detail
function lock:release() end
---Releases it, whatever became of it.
---@return true
function lock:close() end

---Servers that vote for locks.
---@class redmoon.redlock
local redlock = {}
---@param name string 1 to 512 bytes
---@param options? redmoon.redlock_options
---@return redmoon.lock?
---@return string? message
---@return string? code LOCKED when another holds it; UNAVAILABLE when too few servers vote, or there is no thread to renew with
---@return redmoon.detail? detail
function redlock:lock(name, options) end
---Returns what fn(lock, ...) returns; LOST when the lock was lost before the end.
---@param name string
---@param options redmoon.redlock_options|nil
---@param fn fun(lock: redmoon.lock, ...): ...
---@param ... any
---@return any
function redlock:with_lock(name, options, fn, ...) end
---@return true
function redlock:close() end

---What a semaphore or a read-write lock gives.
---@class redmoon.permit
---@field token string
---@field count integer how many permits it stands for
---@field fence? integer rises over every acquisition under the name; none of a permit to read
local permit = {}
---By the local clock, no round trip.
---@return boolean
function permit:held() end
---@return number seconds
function permit:remaining() end
---@param ttl? number
---@return true?
---@return string? message
---@return string? code LOST when it is held no more
---@return redmoon.detail? detail
function permit:extend(ttl) end
---@return true?
---@return string? message
---@return string? code LOST when it had been lost
---@return redmoon.detail? detail
function permit:release() end
---Releases it, whatever became of it.
---@return true
function permit:close() end

---The plain list that programs in other languages use as a queue. At most once.
---@class redmoon.list_queue
local list_queue = {}
---@param value any what the codec takes
---@return integer? length items in the list afterwards
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function list_queue:push(value) end
---The oldest item, or nil. What cannot be decoded is CODEC with `detail.payload`, because it is nowhere else any more.
---@param timeout? number default 0: do not wait; to 31622400
---@return any? value
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function list_queue:pop(timeout) end
---@return integer? length
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function list_queue:length() end
---@return true
function list_queue:close() end

---@class redmoon.stream_queue_options
---@field lease? number default 30; 0.1 to 86400
---@field max_attempts? integer default 10; a job whose runs failed or crashed so often is dead
---@field max_payload? integer default 262144 bytes
---@field codec? redmoon.codec default "json"

---A job under a lease. `close()` and the end of its scope give it back, or after an error tell that it failed.
---@class redmoon.stream_job
---@field id string
---@field payload any nil when it cannot be decoded
---@field raw string its bytes
---@field attempt integer 1 for the first run; what was released does not count
---@field epoch integer rises with each time it is given out
---@field ended boolean
local stream_job = {}
---@return true?
---@return string? message
---@return string? code LOST when the lease passed to another worker
---@return redmoon.detail? detail
function stream_job:ack() end
---Acknowledges, and takes the next new job in the same round trip; nil now and then: then pop.
---@return redmoon.stream_job?
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function stream_job:ack_next() end
---@param options? { delay?: number, error?: any, fatal?: boolean } delay: up to the lease
---@return true?
---@return boolean|string? dead it will not run again; or the message
---@return string? code
---@return redmoon.detail? detail
function stream_job:nack(options) end
---@param lease? number up to the queue's, which is the default; never shortens it
---@return true?
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function stream_job:extend(lease) end
---Gives it back unrun: the attempt does not count.
---@return true?
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function stream_job:release() end
---By the local clock; no I/O.
---@return boolean
function stream_job:held() end
---@return number seconds
function stream_job:remaining() end
---@return true
function stream_job:close() end

---@class redmoon.dead_stream_job
---@field id string
---@field payload any nil when it cannot be decoded
---@field raw string
---@field error string
---@field attempts integer
---@field epoch integer
---@field died_at number seconds of Unix time by the server's clock

---First in, first out over a Redis stream, with leases.
---@class redmoon.stream_queue
local stream_queue = {}
---@param payload any what the codec takes
---@param options? redmoon.request_options
---@return string? id
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function stream_queue:push(payload, options) end
---All or none, up to 500.
---@param items { payload: any }[]
---@param options? redmoon.request_options
---@return string[]? ids
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function stream_queue:push_many(items, options) end
---@param timeout? number default 0: do not wait; to 86400
---@return redmoon.stream_job?
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function stream_queue:pop(timeout) end
---Waits for the first one only.
---@param n integer 1 to 500
---@param timeout? number
---@return redmoon.stream_job[]?
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function stream_queue:pop_many(n, timeout) end
---delayed: given back and not taken again yet.
---@return { ready: integer, delayed: integer, leased: integer, dead: integer }?
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function stream_queue:stats() end
---Those that died first in front.
---@param count? integer default 100; to 500
---@return redmoon.dead_stream_job[]?
---@return integer|string? total or the message
---@return string? code
---@return redmoon.detail? detail
function stream_queue:dead(count) end
---@param n? integer default: all
---@return integer? moved
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function stream_queue:redrive(n) end
---@return true
function stream_queue:close() end

---The plain list that programs in other languages use as a queue. At most once.
---@class redmoon.list_queue
local list_queue = {}
---@param value any what the codec takes
---@return integer? length items in the list afterwards
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function list_queue:push(value) end
---The oldest item, or nil. What cannot be decoded is CODEC with `detail.payload`, because it is nowhere else any more.
---@param timeout? number default 0: do not wait; to 31622400
---@return any? value
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function list_queue:pop(timeout) end
---@return integer? length
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function list_queue:length() end
---@return true
function list_queue:close() end

---What queue:pop() gives: a job under a lease. Its calls end with LOST when the lease passed to another worker.
---@class redmoon.job
---@field id string
---@field payload any nil when it cannot be decoded
---@field raw string the payload as it was sent
---@field attempt integer 1 for the first run; runs that were released do not count
---@field epoch integer rises with every lease of the queue and never comes again
---@field group? string
---@field ended boolean whether this object ended it
local job = {}
---It is done.
---@param options? { result?: any, retention?: number } seconds for which the result is kept: else as the queue says
---@return true?
---@return string? message
---@return string? code LOST
---@return redmoon.detail? detail
function job:ack(options) end
---It is done, and the next one is taken in the same round trip; nil when none is ready.
---@param options? { result?: any, retention?: number }
---@return redmoon.job?
---@return string? message
---@return string? code LOST; UNAVAILABLE when replicas lack it: the next job is detail.job then
---@return redmoon.detail? detail
function job:ack_next(options) end
---It failed.
---@param options? { delay?: number, error?: any, fatal?: boolean } delay: seconds until it runs again, else by the backoff
---@return true?
---@return boolean|string dead whether it will not run again; or a message
---@return string? code LOST
---@return redmoon.detail? detail
function job:nack(options) end
---Prolongs the lease, never shortens it.
---@param lease? number default: the queue's
---@return true?
---@return string? message
---@return string? code LOST
---@return redmoon.detail? detail
function job:extend(lease) end
---Gives it back, as if it had not been taken.
---@return true?
---@return string? message
---@return string? code LOST
---@return redmoon.detail? detail
function job:release() end
---@param value any what the codec takes; queue:peek shows it
---@return true?
---@return string? message
---@return string? code LOST
---@return redmoon.detail? detail
function job:progress(value) end
---By the local clock, no round trip.
---@return boolean
function job:held() end
---@return number seconds
function job:remaining() end
---A job that was not ended is given back; at the end of a scope that ends by an error it has failed by that.
---@return true
function job:close() end

---@class redmoon.job_info
---@field id string
---@field state "ready"|"delayed"|"leased"|"dead"|"done"
---@field payload any
---@field progress? any
---@field result? any
---@field error? string why it failed last
---@field unique? string
---@field group? string of queue:peek
---@field priority integer
---@field failures integer
---@field crashes integer leases that ended before it was done
---@field epoch integer of its last lease; 0: none yet
---@field max_attempts? integer of queue:peek
---@field max_crashes? integer of queue:peek
---@field after? number of queue:peek: seconds until it is due, its lease is over or its result is gone; dead: since, negative
---@field died_at? number of queue:dead: Unix time by the server's clock

---@class redmoon.queue_options
---@field lease? number default 30; 0.1 to 86400
---@field max_attempts? integer default 10: so many runs may fail
---@field max_crashes? integer default 3: so many leases may end before the job is done
---@field backoff? { min?: number, max?: number } default 1 and 3600: the delay after a failure is random, up to min, doubled with each
---@field retention? number default 0: how long the result of a done job is kept
---@field max_payload? integer default 262144 bytes
---@field min_replicas? integer default 0: so many replicas must have what a push or an ack has written, else UNAVAILABLE
---@field group_concurrency? integer default 0, no limit: so many jobs of a group are leased at once
---@field group_limit? integer default 0, no limit: so many jobs of a group begin in a window
---@field group_window? number seconds, with group_limit
---@field events? boolean|integer default false; true: about 10,000 are kept of what becomes of jobs, or so many
---@field codec? redmoon.codec default "json"

---@class redmoon.queue_event
---@field event "added"|"delayed"|"active"|"completed"|"failed"|"dead"|"stalled"|"released"|"progress"|"removed"|"redriven"|"paused"|"resumed"
---@field id? string of the job; nil: of the queue
---@field epoch integer of the job's lease; 0: it had none yet
---@field at number Unix time by the server's clock
---@field place string what comes behind it is asked for by this

---@class redmoon.push_options
---@field group? string whose job it is: groups take turns, each within its limits
---@field delay? number seconds; it is ready after that, never before
---@field priority? integer default 0; to 1023: higher ones go first
---@field id? string refused while a job has it
---@field unique? string refused while a job that is not done or dead has the same
---@field max_attempts? integer
---@field max_crashes? integer

---Jobs that are handed out under leases: each runs at least once.
---@class redmoon.queue
local queue = {}
---@param payload any what the codec takes
---@param options? redmoon.push_options|{ request_id?: string }
---@return string? id
---@return string? message
---@return string? code CONFLICT when the id or the unique key is taken: detail.id says by which job; UNAVAILABLE: it is pushed, but replicas lack it
---@return redmoon.detail? detail
function queue:push(payload, options) end
---@param items (redmoon.push_options|{ payload: any })[] up to 500
---@param options? { request_id?: string }
---@return (string|redmoon.error)[]? ids an error where there was a conflict
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function queue:push_many(items, options) end
---@param timeout? number default 0: do not wait; to 86400
---@param options? { renew?: boolean, request_id?: string } renew: the keeper thread prolongs the lease until the job is ended
---@return redmoon.job?
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function queue:pop(timeout, options) end
---@param count integer 1 to 500
---@param timeout? number for the first of them
---@param options? { renew?: boolean, request_id?: string }
---@return redmoon.job[]?
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function queue:pop_many(count, timeout, options) end
---@param jobs redmoon.job[]
---@param lease? number default: the queue's
---@return redmoon.job[]? lost
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function queue:extend_many(jobs, lease) end
---They are done; and up to `count` next ones are taken in the same round trip.
---@param jobs redmoon.job[]
---@param count? integer default 0
---@return redmoon.job[]? lost
---@return redmoon.job[]|string next or a message
---@return string? code UNAVAILABLE when replicas lack it: the next jobs are detail.jobs then
---@return redmoon.detail? detail
function queue:ack_many(jobs, count) end
---Runs jobs until `stop` says so; in an event loop each in a coroutine of its own. A handler that raises, or returns nil and a message, has failed by that.
---@param handler fun(job: redmoon.job): any, any
---@param options? { concurrency?: integer, stop?: fun(): boolean, on_error?: fun(message: string, code: string, detail: redmoon.detail, id?: string) }
---@return { done: integer, failed: integer, lost: integer, released: integer }?
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function queue:work(handler, options) end
---@return { ready: integer, delayed: integer, leased: integer, dead: integer, done: integer, pushed: integer, finished: integer, removed: integer, paused: boolean, next_due: number, grouped: integer, groups: integer }? grouped: of those that are ready; groups: that may have a turn
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function queue:stats() end
---Events behind `since`, or all that are kept; waits for up to `timeout` where there is none.
---@param since? string place of an event
---@param count? integer default 100, to 1000
---@param timeout? number default 0
---@return redmoon.queue_event[]?
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function queue:read_events(since, count, timeout) end
---The same, one by one, until none comes within `timeout`; a failure is raised.
---@param since? string place of an event
---@param timeout? number default 0
---@return fun(): redmoon.queue_event?
function queue:events(since, timeout) end
---Limits of one group, for all workers, instead of the queue's options; without them it has those again.
---@param group string
---@param limits? { concurrency?: integer, limit?: integer, window?: number } 0: no limit
---@return true?
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function queue:set_group(group, limits) end
---No job is handed out until queue:resume().
---@return true?
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function queue:pause() end
---@return true?
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function queue:resume() end
---Those that died first in front.
---@param count? integer default 100, to 500
---@param first? integer default 0: how many to leave out
---@return redmoon.job_info[]?
---@return integer|string total there are in all; or a message
---@return string? code
---@return redmoon.detail? detail
function queue:dead(count, first) end
---@param count? integer default: all
---@return integer? moved
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function queue:redrive(count) end
---@param id string
---@return redmoon.job_info?
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function queue:peek(id) end
---@param id string
---@return boolean? removed
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function queue:remove(id) end
---@param state "ready"|"delayed"|"dead"|"done"
---@return integer? removed
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function queue:purge(state) end
---Whether each job is in exactly one place.
---@return { jobs: integer, wrong: { id: string, what: string }[] }?
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function queue:check() end
---@return true
function queue:close() end

---What a subscription yields.
---@class redmoon.message
---@field kind "message"
---@field channel string
---@field payload string
---@field pattern? string that it matched
---@field shard? true it came through a shard channel

---A loss that has happened, or may have: it comes before the next message.
---@class redmoon.gap
---@field kind "gap"
---@field reconnects integer connections that were lost; how many messages with them nobody knows
---@field dropped integer messages that arrived and found no room: an exact count
---@field down_time number

---@class redmoon.subscription_set
---@field channels? string[]
---@field patterns? string[] globs
---@field shards? string[] shard channels (Redis >= 7.0)

---@class redmoon.subscribe_options : redmoon.subscription_set
---@field buffer? integer messages that wait to be fetched, default 1000
---@field overflow? "drop_oldest"|"drop_newest"|"block"|"close" default "drop_oldest"
---@field ping_interval? number default 15; a link that is silent for twice as long is given up
---@field min_backoff? number default 0.05
---@field max_backoff? number default 5
---@field on_message? fun(event: redmoon.message|redmoon.gap) in an event loop: as subscription:on_message
---@field on_error? fun(message: any, code: string?, detail: redmoon.detail?, event: redmoon.message|redmoon.gap|nil) with on_message

---@class redmoon.subscription_stats
---@field received integer
---@field delivered integer
---@field dropped integer
---@field blocked integer how often reading was stopped, overflow "block"
---@field gaps integer
---@field reconnects integer
---@field buffered integer
---@field channels integer
---@field patterns integer
---@field shards integer
---@field connected boolean

---@class redmoon.subscription
local subscription = {}
---The next message or gap; nil alone when nothing came within `timeout` (default: it waits for ever).
---@param timeout? number
---@return redmoon.message|redmoon.gap|nil
---@return string? message
---@return string? code "TOO_LARGE": the buffer was full, overflow "close"; a server's code: it does not let us back
---@return redmoon.detail? detail
function subscription:receive(timeout) end
---Ends with the subscription; raises when that ended by itself.
---@return fun(): redmoon.message|redmoon.gap|nil
function subscription:messages() end
---In an event loop: calls `fn` for each event, one after the other, in a coroutine of its own, until the subscription ends.
---@param fn fun(event: redmoon.message|redmoon.gap)
---@param on_error? fun(message: any, code: string?, detail: redmoon.detail?, event: redmoon.message|redmoon.gap|nil) what `fn` raised, with the event; or why the subscription has ended. Default: warn()
---@return true
function subscription:on_message(fn, on_error) end
---@param set redmoon.subscription_set
---@return true?
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function subscription:add(set) end
---@param set redmoon.subscription_set
---@return true?
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function subscription:remove(set) end
---@return redmoon.subscription_stats
function subscription:stats() end
---@return true
function subscription:close() end

---@class redmoon.topic_message
---@field kind "message"
---@field seq integer
---@field payload string

---@class redmoon.topic_gap
---@field kind "gap"
---@field from? integer the messages from..to are missing
---@field to? integer
---@field count? integer
---@field unknown? true instead of these: the numbers began anew

---@class redmoon.reader_options
---@field buffer? integer default 1000
---@field overflow? "drop_oldest"|"drop_newest"|"block"|"close" default "drop_oldest"
---@field ping_interval? number default 15
---@field min_backoff? number default 0.05
---@field max_backoff? number default 5

---@class redmoon.topic_stats
---@field delivered integer
---@field filled integer of these, those that were missed, and given from what a durable topic keeps
---@field lost integer
---@field gaps integer
---@field unknown integer gaps of unknown extent
---@field reconnects integer
---@field buffered integer
---@field connected boolean

---@class redmoon.topic_reader
local topic_reader = {}
---The next message or gap; nil alone when nothing came within `timeout` (default: it waits for ever).
---@param timeout? number
---@return redmoon.topic_message|redmoon.topic_gap|nil
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function topic_reader:receive(timeout) end
---Ends with the reader; raises when that ended by itself.
---@return fun(): redmoon.topic_message|redmoon.topic_gap|nil
function topic_reader:messages() end
---@return redmoon.topic_stats
function topic_reader:stats() end
---@return true
function topic_reader:close() end

---@class redmoon.topic_retention
---@field length? integer messages that are kept; default 100000 without `age`
---@field age? number seconds for which they are
---@field hold? integer what readers have not acknowledged is kept in spite of these, up to so many messages

---@class redmoon.topic_options
---@field durable? boolean default false
---@field min_replicas? integer default 0: so many replicas must have what a publish has written, else UNAVAILABLE
---@field retention? number|redmoon.topic_retention a number is its `age`

---@class redmoon.topic_lagged
---@field kind "lagged"
---@field from? integer the messages from..to were let go before they were received
---@field to? integer
---@field missed? integer
---@field unknown? true instead of these: the numbers began anew, or went back

---@class redmoon.topic_cursor_options
---@field from? "start"|"end" where a new one begins; default "end"
---@field batch? integer messages that are fetched together, 1 to 1000; default 100

---@class redmoon.topic_cursor_stats
---@field delivered integer
---@field missed integer messages that were let go before
---@field lagged integer how often that was told
---@field unknown integer of these, those of unknown extent
---@field buffered integer fetched, and not received yet
---@field seq integer of what was received last
---@field acked integer
---@field lag integer messages behind `seq` when the server was asked last

---@class redmoon.topic_cursor_info
---@field name string
---@field acked integer
---@field lag integer messages behind that
---@field idle number seconds since it was opened or acknowledged

---@class redmoon.topic_cursor
local topic_cursor = {}
---The next message; nil alone when nothing came within `timeout` (default: it waits for ever).
---@param timeout? number
---@return redmoon.topic_message|redmoon.topic_lagged|nil
---@return string? message
---@return string? code "LOST": another opened it since, or it was removed
---@return redmoon.detail? detail
function topic_cursor:receive(timeout) end
---@return fun(): redmoon.topic_message|redmoon.topic_lagged|nil
function topic_cursor:messages() end
---All messages up to `seq` (default: all that were received) are done.
---@param seq? integer
---@return true?
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function topic_cursor:ack(seq) end
---@return redmoon.topic_cursor_stats
function topic_cursor:stats() end
---@return true
function topic_cursor:close() end

---@class redmoon.topic
local topic = {}
---A reader with a name, of a durable topic: the server keeps how far it has acknowledged.
---@param name string 1 to 512 bytes
---@param options? redmoon.topic_cursor_options
---@return redmoon.topic_cursor?
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function topic:reader(name, options) end
---@return redmoon.topic_cursor_info[]?
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function topic:readers() end
---@param name string
---@return boolean? removed
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function topic:remove_reader(name) end
---@param payload string
---@param options? { request_id?: string }
---@return { seq: integer, receivers: integer }?
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function topic:publish(payload, options) end
---@param options? redmoon.reader_options
---@return redmoon.topic_reader?
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function topic:subscribe(options) end
---@return true
function topic:close() end

---@class redmoon.semaphore
local semaphore = {}
---@param count? integer default 1, to 1000: all or none
---@param options? redmoon.semaphore_request
---@return redmoon.permit?
---@return string? message
---@return string? code LOCKED when so many are not free; LOST when the permit of `request_id` is over
---@return redmoon.detail? detail
function semaphore:acquire(count, options) end
---@return { in_use: integer, permits: integer, retry_after: number }?
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function semaphore:stats() end
---@return true
function semaphore:close() end

---@class redmoon.cache
local cache = {}
---@param key redmoon.argument
---@param load fun(key: redmoon.argument): any, any, string|redmoon.cache_loaded|nil, any returns a value; nil: there is none; either may be followed by nil, {tags=}; or nil, message
---@return any value nil, with no second value: there is none
---@return string? message
---@return string? code that of the loader, else UNAVAILABLE
---@return redmoon.cache_info|redmoon.detail|nil info
function cache:get(key, load) end
---@param keys redmoon.argument[] up to 500
---@param load_many fun(keys: redmoon.argument[]): table<redmoon.argument, any>?, any, redmoon.cache_loaded_many? values by key, perhaps followed by nil, {tags=}; or nil, message
---@return any[]? values as the keys; redmoon.null: there is none; an error object: that key failed
---@return string? message
---@return string? code
---@return redmoon.cache_info[]|redmoon.detail|nil infos
function cache:get_many(keys, load_many) end
---What is stored, fresh or stale; loads nothing.
---@param key redmoon.argument
---@return any value
---@return string? message
---@return string? code
---@return redmoon.cache_info|redmoon.detail|nil info
function cache:peek(key) end
---@param key redmoon.argument
---@param value any not nil
---@param options? redmoon.cache_set_options
---@return true?
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function cache:set(key, value, options) end
---@param key redmoon.argument
---@return true?
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function cache:delete(key) end
---Ends all values that have one of these tags, up to 32 at once.
---@param tag redmoon.argument
---@param ... redmoon.argument
---@return true?
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function cache:invalidate_tags(tag, ...) end
---@return { hits: integer, stale: integer, misses: integer, loads: integer, early: integer, failures: integer, waits: integer, lost: integer, invalidated: integer, undecodable: integer, too_large: integer, unavailable: integer, fallbacks: integer, unstored: integer }
function cache:stats() end
---@return true
function cache:close() end

---One owner's face of a read-write lock: it may take again what it holds.
---@class redmoon.rwlock
local rwlock = {}
---@return redmoon.permit?
---@return string? message
---@return string? code LOCKED when another writes, or waits to
---@return redmoon.detail? detail
function rwlock:read() end
---@return redmoon.permit?
---@return string? message
---@return string? code LOCKED when another reads or writes, or this owner reads
---@return redmoon.detail? detail
function rwlock:write() end
---@return true
function rwlock:close() end

---@class redmoon.rate_result
---@field allowed boolean
---@field granted integer units taken; of a refund: given back
---@field limit integer
---@field remaining integer
---@field retry_after number seconds; math.huge: never
---@field reset_after number
---@field policy string name of the limiter that decided
---@field source "server"|"local"|"error" "local": the deny cache
---@field error? string what failed, with source "error"
local rate_result = {}
---Fields RateLimit-Policy, RateLimit and, when it was refused, Retry-After.
---@return table<string, string>
function rate_result:headers() end

---@class redmoon.rate_limiter
local rate_limiter = {}
---@param key redmoon.argument
---@param cost? integer|redmoon.rate_request
---@return redmoon.rate_result?
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function rate_limiter:allow(key, cost) end
---Each item by itself, in one round trip; what failed is an error object in its place.
---@param items redmoon.rate_item[] 1 to 1000
---@return (redmoon.rate_result|redmoon.error)[]?
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function rate_limiter:allow_many(items) end
---Asks until it is allowed; a refusal that cannot end within the timeout is the answer at once.
---@param key redmoon.argument
---@param cost integer|redmoon.rate_request|nil
---@param timeout number
---@return redmoon.rate_result?
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function rate_limiter:wait(key, cost, timeout) end
---Gives units back, as many as are in use at most: field `granted` tells.
---@param key redmoon.argument
---@param units? integer|redmoon.rate_request
---@return redmoon.rate_result?
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function rate_limiter:refund(key, units) end
---What allow(key) would answer; writes nothing.
---@param key redmoon.argument
---@return redmoon.rate_result?
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function rate_limiter:peek(key) end
---@param key redmoon.argument
---@return true?
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function rate_limiter:reset(key) end
---@return true
function rate_limiter:close() end

---@class redmoon.rate_limits
local rate_limits = {}
---All limits or none; field `policy` of the result names the one that decided.
---@param key redmoon.argument
---@param cost? integer|redmoon.rate_request
---@return redmoon.rate_result?
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function rate_limits:allow(key, cost) end
---@return true
function rate_limits:close() end

---@class redmoon.count
---@field value integer 0 when nothing is counted
---@field ttl number seconds until the count ends; math.huge: never; 0 when nothing is counted
---@field exists boolean whether something is counted

---@class redmoon.counted : redmoon.count
---@field applied integer how much was counted: 0 when it was refused

---@class redmoon.increment
---@field [1] redmoon.argument key
---@field [2]? integer default 1
---@field request_id? string

---@class redmoon.counter
local counter = {}
---@overload fun(self: redmoon.counter, key: redmoon.argument, options: redmoon.request_options): redmoon.counted?
---@param key redmoon.argument
---@param by? integer default 1; may be negative; 0 reads
---@param options? redmoon.request_options
---@return redmoon.counted?
---@return string? message
---@return string? code OVERFLOW when the result would be no 64-bit integer
---@return redmoon.detail? detail
function counter:increment(key, by, options) end
---Up to 500 in one round trip, each for itself.
---@param list redmoon.increment[]
---@return (redmoon.counted|redmoon.error)[]?
---@return string? message
---@return string? code
---@return redmoon.detail? detail with `replies`: how each ended
function counter:increment_many(list) end
---@param key redmoon.argument
---@return redmoon.count?
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function counter:get(key) end
---@param key redmoon.argument
---@return true?
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function counter:reset(key) end
---@return true
function counter:close() end
---@class redmoon.revocation_result
---@field status "revoked"|"kept"|"expired" kept: revoked for as long or longer already; expired: nothing to revoke
---@field ttl number how long it stays revoked
---@field cutoff? number of a subject: in force now, seconds since 1970

---@class redmoon.check_result
---@field revoked boolean
---@field reason? string what revoke was given, else "revoked"; "subject", "version", "family", "unavailable"
---@field ttl? number how long what says so lives
---@field code? string of what made it unavailable
---@field message? string of what made it unavailable

---@class redmoon.rotation_result
---@field rotated boolean
---@field status "rotated"|"reused"|"revoked"|"exists"|"gone"
---@field ttl number

---Takes claims of tokens that its caller has verified: it never parses one.
---@class redmoon.blocklist
local blocklist = {}
---@param token redmoon.revocation
---@return redmoon.revocation_result?
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function blocklist:revoke(token) end
---All tokens with iat <= before; by default now, by the server's clock.
---@param sub string
---@param options? { before: number }
---@return redmoon.revocation_result?
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function blocklist:revoke_subject(sub, options) end
---As at a log-out: its refresh tokens, and the access tokens that are checked with it.
---@param family string
---@return redmoon.revocation_result?
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function blocklist:revoke_family(family) end
---A new version: tokens of a lower one are revoked.
---@param sub string
---@param options? { request_id: string }
---@return integer? version
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function blocklist:bump(sub, options) end
---@param rotation redmoon.rotation
---@return redmoon.rotation_result?
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function blocklist:rotate(rotation) end
---@param claims redmoon.claims
---@return redmoon.check_result?
---@return string? message only with on_error = "error"
---@return string? code
---@return redmoon.detail? detail
function blocklist:check(claims) end
---Up to 1,000 tokens in one round trip.
---@param claims redmoon.claims[]
---@return redmoon.check_result[]?
---@return string? message only with on_error = "error"
---@return string? code
---@return redmoon.detail? detail
function blocklist:check_many(claims) end
---Whether the server would keep what it is told: at the start of a program.
---@return true?
---@return string? message
---@return string? code UNAVAILABLE when it may evict a revocation
---@return redmoon.detail? detail
function blocklist:verify() end
---@return true
function blocklist:close() end
---@class redmoon.records
local records = {}
---Replaces the record, or creates it: fields that are not given are gone.
---@param id redmoon.argument
---@param t redmoon.record_fields
---@param options? redmoon.record_write
---@return integer? version
---@return string? message
---@return string? code
---@return redmoon.detail? detail with `version`, the one that is there, after CONFLICT
function records:save(id, t, options) end
---Changes the fields given; redmoon.null deletes one.  nil: there is no record.
---@param id redmoon.argument
---@param t redmoon.record_fields
---@param options? redmoon.record_write
---@return integer? version
---@return string? message
---@return string? code
---@return redmoon.detail? detail with `version`, the one that is there, after CONFLICT
function records:update(id, t, options) end
---nil: there is no record.  The second result is its version.
---@param id redmoon.argument
---@param fields? string[]
---@return redmoon.record_fields?
---@return integer|string? version or the message of a failure
---@return string? code
---@return redmoon.detail? detail
function records:load(id, fields) end
---Adds to a field of type integer or number.  nil: there is no record.  The second result is its new version.
---@param id redmoon.argument
---@param field string
---@param by? number default 1
---@param options? redmoon.request_options
---@return number?
---@return integer|string? version or the message of a failure
---@return string? code
---@return redmoon.detail? detail
function records:increment(id, field, by, options) end
---Lets the lifetime begin anew.  Seconds that are left (math.huge: it has no end); nil: there is no record.
---@param id redmoon.argument
---@return number?
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function records:touch(id) end
---Whether there was one.
---@param id redmoon.argument
---@return boolean?
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function records:delete(id) end
---@return true
function records:close() end

---@class redmoon.session_entry
---@field handle string names the session in a list; it is no id
---@field left number seconds of its lifetime

---@class redmoon.sessions
local sessions = {}
---Begins a session of the subject; its id is nowhere on the server.
---@param subject redmoon.argument
---@param t redmoon.record_fields
---@return string? id
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function sessions:create(subject, t) end
---nil: there is no such session.  The second result is its version.
---@param id string
---@param fields? string[]
---@return redmoon.record_fields?
---@return integer|string? version or the message of a failure
---@return string? code
---@return redmoon.detail? detail
function sessions:load(id, fields) end
---Changes the fields given; redmoon.null deletes one.  nil: there is no such session.
---@param id string
---@param t redmoon.record_fields
---@param options? redmoon.record_write
---@return integer? version
---@return string? message
---@return string? code
---@return redmoon.detail? detail with `version`, the one that is there, after CONFLICT
function sessions:update(id, t, options) end
---Lets the lifetime begin anew.  Seconds that are left; nil: there is no such session.
---@param id string
---@return number?
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function sessions:touch(id) end
---Gives the session another id.  nil: there is no such session.
---@param id string
---@return string? id
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function sessions:rotate(id) end
---Whether there was one.
---@param id string
---@return boolean?
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function sessions:revoke(id) end
---Whether there was one.
---@param handle string
---@return boolean?
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function sessions:revoke_handle(handle) end
---Ends all sessions of the subject but that of `except`; how many ended.
---@param subject redmoon.argument
---@param except? string an id
---@return integer?
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function sessions:revoke_all(subject, except) end
---The sessions of the subject, at most 1,000, those that end last first.
---@param subject redmoon.argument
---@return redmoon.session_entry[]?
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function sessions:list(subject) end
---Loads a session by its handle, and lets its lifetime be as it is.
---@param handle string
---@param fields? string[]
---@return redmoon.record_fields?
---@return integer|string? version or the message of a failure
---@return string? code
---@return redmoon.detail? detail
function sessions:inspect(handle, fields) end
---@return true
function sessions:close() end

---What a transaction runs; false abandons it.
---@alias redmoon.body fun(tx: redmoon.transaction): false?
---@alias redmoon.committed redmoon.replies|false

---@class redmoon.client : redmoon.commands
local client = {}
---A view with other call options; same pool.
---@param options redmoon.call_options
---@return redmoon.client?
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function client:with(options) end
---@return true
function client:close() end
---@param fn fun(p: redmoon.pipeline)
---@return redmoon.replies?
---@return string? message
---@return string? code
---@return redmoon.detail? detail with `replies`: how each command ended
function client:pipeline(fn) end
---The function may be run several times; returning false abandons it, and false is returned.
---@overload fun(self: redmoon.client, fn: redmoon.body, options?: redmoon.transaction_options): redmoon.committed?
---@param keys redmoon.argument|redmoon.argument[] to be watched
---@param fn redmoon.body
---@param options? redmoon.transaction_options
---@return redmoon.committed?
---@return string? message
---@return string? code CONFLICT when the attempts are used up
---@return redmoon.detail? detail
function client:transaction(keys, fn, options) end
---@param options? redmoon.scan_options
---@return redmoon.scan
function client:scan(options) end
---@param key redmoon.argument
---@param options? redmoon.scan_options
---@return redmoon.scan
function client:hscan(key, options) end
---@param key redmoon.argument
---@param options? redmoon.scan_options
---@return redmoon.scan
function client:sscan(key, options) end
---@param key redmoon.argument
---@param options? redmoon.scan_options
---@return redmoon.scan
function client:zscan(key, options) end
---Which keys live for ever, how long the others have left, what they weigh. Reads only.
---@param options? redmoon.audit_options
---@return redmoon.audit_report?
---@return string? message
---@return string? code
---@return redmoon.detail? detail with `state`: what was counted before, for `resume`
function client:audit(options) end
---Gives keys that match and have no TTL one; shows what it would do, unless dry_run is false.
---@param options redmoon.audit_fix_options
---@return redmoon.audit_fix_result?
---@return string? message
---@return string? code
---@return redmoon.detail? detail with `result`: what was done before
function client:audit_fix(options) end
---Takes a TTL that audit_fix gave away again, if the key still has it.
---@param key redmoon.argument
---@param expires number as of redmoon.audit_fixed
---@return boolean? undone false: the key is gone or has another TTL
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function client:audit_undo(key, expires) end
---@return redmoon.node[]? the servers that are known so far
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function client:nodes() end
---@return redmoon.stats?
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function client:stats() end
---Prometheus text.
---@return string?
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function client:metrics() end
---The function is called at the end of the next call that this state makes.
---@param event "command"|"retry"|"connect"|"close"|"redirect"
---@param fn fun(event: redmoon.event)
---@return redmoon.hook?
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function client:on(event, fn) end
---@param name string 1 to 64 letters, digits, '.', '_' and '-'
---@param options? redmoon.counter_options
---@return redmoon.counter?
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function client:counter(name, options) end
---@param name string 1 to 512 bytes
---@param options? redmoon.lock_options
---@return redmoon.lock?
---@return string? message
---@return string? code LOCKED when another holds it, or waits for its turn; UNAVAILABLE for too few replicas, or no thread to renew with
---@return redmoon.detail? detail
function client:lock(name, options) end
---Returns what fn(lock, ...) returns; LOST when the lock was lost before the end.
---@param name string
---@param options redmoon.lock_options|nil
---@param fn fun(lock: redmoon.lock, ...): ...
---@param ... any
---@return any
function client:with_lock(name, options, fn, ...) end
---@param name string the list's key as it is, 1 to 512 bytes
---@param options? { codec?: redmoon.codec } default "string"
---@return redmoon.list_queue?
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function client:list_queue(name, options) end
---@param name string 1 to 512 bytes
---@param options? redmoon.queue_options
---@return redmoon.queue?
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function client:queue(name, options) end
---@param name string the list's key as it is, 1 to 512 bytes
---@param options? { codec?: redmoon.codec } default "string"
---@return redmoon.list_queue?
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function client:list_queue(name, options) end
---@param name string 1 to 512 bytes
---@param options? redmoon.stream_queue_options
---@return redmoon.stream_queue?
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function client:stream_queue(name, options) end
---@param name string 1 to 512 bytes
---@param options redmoon.semaphore_options
---@return redmoon.semaphore?
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function client:semaphore(name, options) end
---@param options redmoon.cache_options
---@return redmoon.cache?
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function client:cache(options) end
---@param options redmoon.subscribe_options
---@return redmoon.subscription?
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function client:subscribe(options) end
---@param name string
---@param options? redmoon.topic_options
---@return redmoon.topic?
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function client:topic(name, options) end
---@param name string 1 to 512 bytes
---@param options? redmoon.rwlock_options
---@return redmoon.rwlock?
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function client:rwlock(name, options) end
---Accepts a fence unless the resource has seen a higher one.
---@param resource string 1 to 512 bytes
---@param fence integer from 1 to 9007199254740991
---@return boolean? accepted
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function client:fence_guard(resource, fence) end
---@param options redmoon.rate_limiter_options
---@return redmoon.rate_limiter?
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function client:rate_limiter(options) end
---@param name string 1 to 32 letters, digits, '.', '_' and '-'
---@param options? redmoon.blocklist_options
---@return redmoon.blocklist?
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function client:blocklist(name, options) end
---Hashes with a schema.
---@param name string 1 to 48 letters, digits, ".", "_" and "-"
---@param options redmoon.records_options
---@return redmoon.records?
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function client:records(name, options) end
---Records under random ids, of which the server holds nothing but keyed hashes.
---@param name string 1 to 30 letters, digits, ".", "_" and "-"
---@param options redmoon.sessions_options
---@return redmoon.sessions?
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function client:sessions(name, options) end

---A private server that ends with the process.
---@class redmoon.embedded
---@field url string
---@field pid integer
local embedded = {}
---@param options? redmoon.options
---@return redmoon.client?
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function embedded:connect(options) end
---@return true
function embedded:close() end

---@class redmoon.json_limits
---@field max_depth? integer from 1 to 1000, default 64
---@field max_size? integer bytes of the text, default 16 MiB

---How a payload becomes bytes, and back.
---@class redmoon.codec_functions
---@field encode fun(value: any): string
---@field decode fun(bytes: string): any anything but nil
---@alias redmoon.codec "string"|"json"|redmoon.codec_functions

---JSON without loss: 64-bit integers, floats, arrays and objects are kept apart.
---@class redmoon.json
local json = {}
---@param value redmoon.value
---@param limits? redmoon.json_limits
---@return string? text
---@return string? message
---@return string? code CODEC
---@return redmoon.detail? detail
function json.encode(value, limits) end
---@param text string
---@param limits? redmoon.json_limits
---@return redmoon.value? value `redmoon.null` for null
---@return string? message
---@return string? code CODEC
---@return redmoon.detail? detail
function json.decode(text, limits) end
---Marks a table as an array, so that it is one even when it is empty.
---@param t? table default: a new one
---@return table
function json.array(t) end
---Whether it is marked; decoded arrays are.
---@param value any
---@return boolean
function json.is_array(value) end

---@class redmoon
---@field json redmoon.json
---@field version string
---@field null userdata what is absent inside a list; equals cjson.null
local redmoon = {}
---Dials lazily. Without a URL: $REDIS_URL, else redis://127.0.0.1:6379/0.
---@overload fun(options: redmoon.options): redmoon.client?, string?, string?, redmoon.detail?
---@param url? string
---@param options? redmoon.options
---@return redmoon.client?
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function redmoon.connect(url, options) end
---@param value any
---@return boolean
function redmoon.is_error(value) end
---Several limits that decide together; they are limiters of one client with different names.
---@param limiters redmoon.rate_limiter[] 1 to 8
---@return redmoon.rate_limits?
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function redmoon.rate_limits(limiters) end
---A lock over several independent servers: held by whom more than half of them vote for.
---@param clients redmoon.redlock_servers
---@return redmoon.redlock?
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function redmoon.redlock(clients) end
---@param source string
---@return redmoon.script?
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function redmoon.script(source) end
---128 random bits as 22 characters of base64url.
---@return string?
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function redmoon.new_jti() end
---@param options? redmoon.embedded_options
---@return redmoon.embedded?
---@return string? message
---@return string? code
---@return redmoon.detail? detail
function redmoon.embedded(options) end
---What a bug report should say.
---@return { version: string, module_version: string, lua: string, libsodium: string, openssl: string, jansson: string }
function redmoon.build_info() end

return redmoon
