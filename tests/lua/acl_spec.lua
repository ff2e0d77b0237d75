-- SPDX-License-Identifier: MIT
-- The rules of docs/acl.md: each is enough for its pattern, and for nothing else.

local helper = require "tests.lua.helper"
local redmoon = require "redmoon"

local admin

-- What a user of each pattern does; a title without one is a failure.
local use = {}

use["Audit"] = function(client)
  assert(admin:set("redmoon:kept", "v"))
  local report = assert(client:audit { match = "redmoon:*", sample = 1 })
  assert(report.complete and report.errors == 0 and report.total.no_ttl >= 1)
  assert(report.total.bytes > 0 and report.server.keys > 0)
end

use["Audit, fix and undo"] = function(client)
  assert(admin:set("redmoon:kept", "v"))
  local done = assert(client:audit_fix { match = "redmoon:kept", ttl = 60, dry_run = false })
  assert(done.fixed == 1 and done.errors == 0)
  assert(client:audit_undo(done.keys[1].key, done.keys[1].expires))
end

use["Blocklist"] = function(client)
  local list = assert(client:blocklist("b"))
  assert(list:verify())
  local exp = math.tointeger(client:time()[1]) + 60
  assert(list:revoke { jti = "j", exp = exp })
  assert(list:revoke_subject("s"))
  assert(list:bump("s", { request_id = "r" }))
  for _, new in ipairs { "r1", "r2" } do
    assert(list:rotate { family = "f", presented = new == "r2" and "r1" or nil, new = new, ttl = 60 })
  end
  assert(list:revoke_family("f"))
  assert(list:check { jti = "j", sub = "s", iat = 1, family = "f" }.revoked)
  local _, message = client:blocklist("b", { min_replicas = 1 }):bump("s")
  assert(message:find("it has reached 0 replicas", 1, true), message)
end

use["Cache"] = function(client)
  local cache = assert(client:cache { name = "c", ttl = 60 })
  assert(cache:delete("k"))
  for i = 1, 2 do assert(cache:get("k", function() return i end) == 1) end
  assert(#cache:get_many({ "k", "l" }, function() return { l = 2 } end) == 2)
  local _, message = cache:get("m", function() return nil, "no" end)
  assert(message == "no")
  assert(cache:set("k", 3))
  assert(cache:peek("k") == 3)
  local other = assert(client:cache { name = "c", ttl = 60, codec = "string" })
  assert(select("#", other:peek("k")) == 4) -- of another codec: it is discarded
  assert(cache:peek("k") == nil and other:stats().undecodable == 1)
  assert(cache:delete("w"))
  assert(admin:set("redmoon:{w}:c.cache+lease", "another's", { ttl = 60 }))
  local impatient <close> = client:with { timeout = 0.2 }
  assert(impatient:cache { name = "c", ttl = 60 }:get("w", function() return 1 end) == 1)
  assert(cache:set("w", 2))
end

use["Counter"] = function(client)
  for _, options in ipairs { { window = 60 }, { ttl = 60 }, { calendar = "day" }, {} } do
    local counter = assert(client:counter("c", options))
    assert(counter:increment("k", 1, { request_id = "r" }))
    for _, each in ipairs(assert(counter:increment_many { { "k" }, { "l", 2 } })) do assert(each.exists, each.message) end
    assert(counter:get("k"))
    assert(counter:reset("k"))
  end
end

local lock_requests = 0
use["Lock"] = function(client)
  lock_requests = lock_requests + 1
  local id = "r" .. lock_requests
  local lock = assert(client:lock("x", { ttl = 5, max_hold = 60, renew = true, request_id = id }))
  local inner = assert(client:lock("x", { token = lock.token }))
  assert(inner:release())
  assert(lock:extend())
  assert(lock:release())
  local fair = assert(client:lock("x", { fair = true }))
  local none, _, code = client:lock("x", { fair = true, wait = 0.2 })
  assert(none == nil and code == "LOCKED", code)
  assert(fair:release())
  local _, message = client:lock("x", { ttl = 0.1, min_replicas = 1 })
  assert(message:find("it has reached 0 replicas", 1, true), message)
end

use["Queue"] = function(client)
  local queue = assert(client:queue("q", { events = true, retention = 0.001, backoff = { min = 0, max = 0 } }))
  for _ = 1, 4 do assert(queue:push(1, { unique = redmoon.new_jti(), request_id = redmoon.new_jti() })) end
  assert(queue:push_many { { payload = 6, id = redmoon.new_jti(), delay = 0.001 } })
  local silent = assert(client:queue("silent"))
  local ids = assert(silent:push_many { { payload = 1 }, { payload = 2 }, { payload = 3 } })
  assert(silent:peek(ids[2]) and silent:remove(ids[3]) and silent:pop())
  assert(silent:push_many { { payload = 1 }, { payload = 2 } })
  assert(silent:check() and silent:stats() and silent:purge("ready"))
  local job = assert(queue:pop(60, { renew = true, request_id = redmoon.new_jti() }))
  assert(job:extend() and job:progress(1))
  assert(assert(job:ack_next { result = 1 }):nack { error = "why", delay = 0.001 })
  assert(assert(queue:pop(60)):nack { fatal = true })
  assert(assert(queue:pop(60)):release())
  local jobs = assert(queue:pop_many(5))
  assert(queue:extend_many(jobs))
  assert(queue:ack_many(jobs, 1))
  assert(queue:redrive() == 1)
  assert(queue:read_events(nil, 1, 1))
  assert(queue:set_group("g", { concurrency = 1, limit = 9, window = 0.001 }))
  for _ = 1, 3 do assert(queue:push(1, { group = "g" })) end
  for _ = 1, 3 do assert(assert(queue:pop(60)):ack()) end
  assert(queue:pause() and queue:resume())
  assert(queue:peek(assert(queue:dead()) and job.id) == nil)
  assert(queue:remove(assert(queue:pop(60)).id))
  assert(queue:stats() and queue:check() and queue:purge("dead") and queue:purge("ready") and queue:purge("delayed"))
  local _, message = client:queue("copied", { min_replicas = 1 }):push(1)
  assert(message:find("it has reached 0 replicas", 1, true), message)
  local brief = assert(client:queue("brief", { lease = 0.1, max_crashes = 1 }))
  assert(brief:push(1) and brief:pop())
  repeat assert(select("#", brief:pop(0.05)) == 1) until brief:stats().dead > 0 -- its lease ended
  assert(brief:purge("dead"))
end

use["Rate limiter"] = function(client)
  local limiters = {}
  for i, algorithm in ipairs { "buckets", "fixed_window", "gcra", "sliding_log", "sliding_window" } do
    local limiter = client:rate_limiter { algorithm = algorithm, limit = 2, window = 60, name = algorithm }
    for _ = 1, 3 do assert(limiter:allow("k", { request_id = "once" })) end
    for _ = 1, 3 do assert(limiter:allow("k")) end
    assert(limiter:peek("k"))
    assert(limiter:refund("k", 1))
    assert(limiter:reset("k"))
    for _, result in ipairs(assert(limiter:allow_many { { "k" }, { "k", 2 } })) do assert(result.source == "server") end
    limiters[i] = limiter
  end
  assert(redmoon.rate_limits(limiters):allow("k"))
  -- Of a window that is over something has to be trimmed.
  local short = client:rate_limiter { algorithm = "sliding_log", limit = 2, window = 0.02, name = "short" }
  for _ = 1, 6 do assert(short:wait("k", 1, 60).allowed) end
end

local fields = { name = "string", visits = "integer", score = "number" }

use["Records"] = function(client)
  for _, options in ipairs { { ttl = 60 }, { ttl = 60, sliding = true, max_age = 600 }, {} } do
    options.fields = fields
    local records = assert(client:records("r", options))
    assert(records:save("1", { name = "ann", visits = 1, score = 0.5 }))
    assert(records:load("1"))
    assert(records:load("1", { "name" }))
    assert(records:update("1", { name = "bob" }, { request_id = "r" }))
    assert(records:increment("1", "visits", 2))
    assert(records:increment("1", "score", 0.25))
    assert(records:touch("1"))
    assert(records:delete("1"))
  end
end

use["Sessions"] = function(client)
  local sessions = assert(client:sessions("s", { fields = fields, ttl = 60, secret = ("k"):rep(32) }))
  local id = assert(sessions:create("ann", { visits = 1 }))
  assert(sessions:load(id))
  assert(sessions:update(id, { visits = 2 }))
  assert(sessions:touch(id))
  id = assert(sessions:rotate(id))
  assert(#assert(sessions:list("ann")) == 1)
  assert(sessions:revoke(id))
  assert(sessions:create("ann", { visits = 1 }))
  assert(sessions:revoke_all("ann"))
end

use["Stream queue"] = function(client)
  local queue = assert(client:stream_queue("q", { lease = 60, max_attempts = 1 }))
  assert(queue:push("a"))
  assert(queue:push_many({ { payload = "b" }, { payload = "c" } }, { request_id = redmoon.new_jti() }))
  local a, b = assert(queue:pop()), assert(queue:pop(1))
  assert(a:extend())
  assert(a:release())
  assert(not select(2, b:ack_next()))
  assert(queue:pop():nack { error = "no" })
  for _, job in ipairs(assert(queue:pop_many(10))) do assert(job:nack { fatal = true }) end
  assert(#assert(queue:dead()) > 0)
  assert(queue:stats())
  assert(queue:redrive() > 0)
  for _, job in ipairs(assert(queue:pop_many(10))) do assert(job:ack()) end
  -- A lease that is over, taken over.
  local short = assert(client:stream_queue("short", { lease = 0.1, max_attempts = 5 }))
  assert(short:push("x"))
  assert(short:pop())
  assert(short:pop(10):ack())
end

use["Fence guard"] = function(client)
  assert(client:fence_guard("g", 5))
  assert(client:fence_guard("g", 4) == false)
end

use["Semaphore"] = function(client)
  local semaphore = assert(client:semaphore("s", { permits = 1, ttl = 5 }))
  local permit = assert(semaphore:acquire(1, { request_id = redmoon.new_jti() }))
  assert(not semaphore:acquire())
  assert(not client:semaphore("s", { permits = 1, ttl = 5, wait = 0.2 }):acquire())
  assert(semaphore:stats())
  assert(permit:extend())
  assert(permit:release())
end

use["Redlock"] = function(client)
  local second <close> = assert(redmoon.connect(helper.tcp_url()))
  local redlock <close> = redmoon.redlock { client, second, quarantine = false }
  local lock = assert(redlock:lock("x", { ttl = 5, renew = true }))
  assert(lock:extend())
  assert(lock:release())
  local careful <close> = redmoon.redlock { client, second, quarantine = 86400 }
  local _, message = careful:lock("x")
  assert(message:find("in quarantine after a start", 1, true) and not message:find("permission", 1, true), message)
end

use["Read-write lock"] = function(client)
  local lock, other = assert(client:rwlock("l", { ttl = 5 })), assert(client:rwlock("l", { ttl = 5 }))
  local read = assert(lock:read())
  assert(not other:write())
  assert(not client:rwlock("l", { wait = 0.2 }):write())
  assert(read:extend())
  assert(read:release())
  local write = assert(other:write())
  assert(write:extend())
  assert(write:release())
end

use["Topic"] = function(client)
  local topic = assert(client:topic("t"))
  local reader <close> = assert(topic:subscribe())
  local seq = assert(topic:publish("x", { request_id = redmoon.new_jti() })).seq
  assert(topic:publish("y"))
  assert(reader:receive(20).seq == seq)
  assert(reader:receive(20).payload == "y")
  local durable <close> = assert(client:topic("d", { durable = true }))
  local small <close> = assert(durable:subscribe { buffer = 1 })
  local named <close> = assert(durable:reader("r"))
  assert(named:receive(0.01) == nil)
  local last
  for _ = 1, 3 do last = assert(durable:publish("x", { request_id = redmoon.new_jti() })).seq end
  for i = last - 2, last do assert(small:receive(20).seq == i and named:receive(20).seq == i) end
  assert(named:ack())
  assert(#assert(durable:readers()) == 1)
  assert(durable:remove_reader("r"))
end

local function rules()
  local file <close> = assert(io.open("docs/acl.md"))
  local list = {}
  for title, rule in file:read("a"):gmatch("\n## ([^\n]+)\n\n```\n([^\n]+)\n```") do
    list[#list + 1] = { title = title, rule = rule }
  end
  return list
end

local function words(text)
  local list = {}
  for word in text:gmatch("%S+") do list[#list + 1] = word end
  return table.unpack(list)
end

-- Neither those who wait nor those who wake them were refused anything: that would not be seen otherwise.
local function assert_may_wake()
  for _, entry in ipairs(assert(admin:acl("LOG"))) do
    local why, what = entry.reason, entry.object
    assert.is_nil(why == "channel" or what == "publish" or what:match("subscribe$") or nil, why .. " " .. what)
  end
end

describe("the rule of", function()
  setup(function() admin = helper.client() end)
  teardown(function() admin:close() end)

  local function connect(rule)
    assert(admin:acl("SETUSER", "app", "reset", "on", ">pw", "-@all", "~redmoon:*", words(rule)))
    return assert(helper.server():connect { username = "app", password = "pw" })
  end

  for _, entry in ipairs(rules()) do
    it(entry.title .. " is enough for it", function()
      assert.is_function(use[entry.title], "no use of " .. entry.title .. " is known")
      for _, scripts in ipairs { "known", "unknown" } do
        if scripts == "unknown" then assert(admin:script("FLUSH")) end
        collectgarbage() -- what an earlier client handed out may keep it, and its link, alive
        assert(admin:acl("LOG", "RESET"))
        local client <close> = connect(entry.rule)
        use[entry.title](client)
        assert_may_wake()
      end
    end)

    it(entry.title .. " allows nothing else", function()
      local client <close> = connect(entry.rule)
      for _, command in ipairs { { "FLUSHALL" }, { "CONFIG", "GET", "*" }, { "KEYS", "*" }, { "SCRIPT", "FLUSH" },
        { "EVAL", "return redis.call('DEL', KEYS[1])", "1", "other:key" }, { "ACL", "LIST" } } do
        helper.assert_failure("NOPERM", client:call(table.unpack(command)))
      end
    end)
  end
end)
