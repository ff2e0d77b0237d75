-- SPDX-License-Identifier: MIT
-- queue_push_bundle: new jobs of equal options in bundles (include/queue_bundle.lua).    writes, O(n + n / 50 * log jobs)
-- KEYS[1]  <prefix>:{<name>}:queue.jobs      hash: records, payloads, unique keys, of jobs that have to live for ever
-- KEYS[2]  <prefix>:{<name>}:queue.state     hash: seq, epoch, counters; lives for ever: a seq or epoch never comes again
-- KEYS[3]  <prefix>:{<name>}:queue.ready     zset: ids by priority and seq; lives for ever, as its jobs do
-- KEYS[4]  <prefix>:{<name>}:queue.wake      zset: the marker, if a worker is to be woken; one at most, needs no TTL
-- KEYS[5]  <prefix>:{<name>}:queue+req.<id>  string: optional: the answer to this request; lives 10 minutes
-- ARGV[1]  priority (integer, 0 to 1023)   ARGV[2]  max attempts   ARGV[3]  max crashes (integers, 1 to 1000000)
-- ARGV, behind these, of each bundle: base of its ids (20 random hex digits), lengths of its 1 to 50 payloads (two bytes
--          each, the high one first), the payloads, one behind the other; at most 500 jobs in all
-- Returns  {1} all are pushed: "<base>-00" and so on    what queue_push answered, or would have, to this request before
--- @include "status"
--- @include "request"
--- @include "again"
--- @include "queue"
--- @include "queue_wake"
--- @include "queue_bundle"
--- @include "queue_bundles"
local jobs, state, ready, wake, request = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local priority, attempts, crashes, args = ARGV[1], ARGV[2], ARGV[3], ARGV

local answered = request_answered(request)
if answered then return written_again(request) or answered end
priority = queue_whole(priority, 0, 1023)
attempts, crashes = queue_whole(attempts, 1, 1000000), queue_whole(crashes, 1, 1000000)
local fields, counts, total
if priority and attempts and crashes then fields, counts, total = bundle_fields(jobs, args, 4, attempts, crashes) end
local seq, pushed = unpack(redis.call("HMGET", state, "seq", "pushed"))
seq, pushed = tonumber(seq or 0), tonumber(pushed or 0)
if not fields or seq + total >= BUNDLE_LEVEL then
  return redis.error_reply("ERR queue_push_bundle: ARGV is priority 0 to 1023, max attempts, max crashes, and of bundles "
    .. "a new base of 20 hex digits, lengths, payloads, 500 in all; and a queue has 2^42 places")
end
local members, place = {}, (1023 - priority) * BUNDLE_LEVEL + seq + 1
for i, count in ipairs(counts) do
  members[2 * i - 1] = queue_text(place)
  members[2 * i] = string.format("\0%s-%02d", args[3 * i + 1], count)
  place = place + count
end
for i = 1, #fields, 900 do redis.call("HSET", jobs, unpack(fields, i, math.min(i + 899, #fields))) end
redis.call("ZADD", ready, unpack(members))
redis.call("HSET", state, "seq", queue_text(seq + total), "pushed", queue_text(pushed + total))
redis.call("HINCRBY", state, "bundled", queue_text(total - #counts))
queue_ring(wake)
if request then request_keep(request, bundle_answer(args, 4, counts)) end
return {QUEUE_OK}
