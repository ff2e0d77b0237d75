-- SPDX-License-Identifier: MIT
-- The collector, as eager as it gets, and what is left to it: nothing is kept, nothing stays open.

local helper = require "helper"
local redmoon = require "redmoon"

local collectors = {
  ["without a pause"] = function()
    collectgarbage("incremental", 200, 1000, 1)
    collectgarbage("setpause", 0)
  end,
  ["generational"] = function() collectgarbage("generational", 1, 1) end,
  ["after every few instructions"] = function()
    debug.sethook(function() collectgarbage("step") end, "", 500)
  end,
}

local function calm()
  debug.sethook()
  collectgarbage("incremental", 200, 100, 13)
  for _ = 1, 4 do collectgarbage() end
end

local function descriptors()
  local pipe <close> = assert(io.popen("ls /proc/$PPID/fd | wc -l"))
  return assert(pipe:read("n"))
end

local serial = 0 -- of all tests: no name is used twice

local script = redmoon.script("return {KEYS[1], ARGV[1], {1, 2.5}}")

-- Every kind of call and object, all closed.  Whether the answers are right is looked at too: what the collector
-- takes too early shows there.
local function use_and_close(client, i)
  local tag = "tag" .. i
  assert(client:set("k", tag, { ttl = 100 }))
  assert.equal(tag, client:get("k"))
  assert.equal("WRONGTYPE", (select(3, client:lpush("k", 1))))
  assert(client:hset("h", "a", tag, "b", "2"))
  assert.same({ a = tag, b = "2" }, client:hgetall("h"))
  local replies = assert(client:pipeline(function(p)
    p:echo(tag)
    p:lpush("k", 1)
    p:run(script, { "{k}ey" }, { tag })
  end))
  assert.equal(tag, replies[1])
  assert.is_true(redmoon.is_error(replies[2]))
  assert.equal(tag, replies[3][2])
  replies = assert(client:transaction("k", function(tx)
    assert.equal(tag, tx:get("k"))
    tx:multi()
    tx:echo(tag)
    tx:run(script, { "{k}ey" }, { tag })
  end))
  assert.equal(tag, replies[1])
  assert.is_false(pcall(client.pipeline, client, function() error(tag) end))
  assert.is_false(pcall(client.transaction, client, "k", function() error(tag) end))
  assert.is_false(client:transaction("k", function() return false end))
  for member in client:hscan("h") do assert(member == "a" or member == "b") end
  do
    local lock <close> = assert(client:lock("gc"))
    assert(lock:extend(20))
  end
  assert.equal(tag, client:with_lock("gc", {}, function() return tag end))
  do
    local limiter <close> =
      assert(client:rate_limiter { algorithm = "sliding_log", limit = 1000000 // 10, window = 1, name = "gc" })
    assert(limiter:allow(tag):headers())
    local counter <close> = assert(client:counter("gc", { window = 1 }))
    assert(assert(counter:increment(tag)).exists)
    local counted = assert(counter:increment_many { { tag, 2, request_id = tag }, { "k" }, { 17, 3 } })
    assert.is_true(counted[1].value >= 2)
    local list <close> = assert(client:blocklist("gc", { hash_key = ("k"):rep(16) }))
    assert(list:revoke { jti = tag, exp = 2000000000 })
    assert(list:check({ jti = tag }).revoked and list:check_many({ { jti = tag } })[1].revoked)
    local view <close> = assert(client:with { timeout = 5 })
    local hook <close> = -- luacheck: ignore 211
      assert(view:on("command", function(event) assert(event.command) end))
    assert.equal(tag, view:echo(tag))
  end
  do
    local cache <close> = assert(client:cache { name = "gc", ttl = 5, stale_ttl = 5 })
    local function load(key) return { key } end
    assert(cache:delete(tag))
    for _ = 1, 3 do assert.equal(tag, cache:get(tag, load)[1]) end
    local values = assert(cache:get_many({ tag, "k", 17 }, function() return { k = 1 } end))
    assert.is_true(values[1][1] == tag and values[3] == redmoon.null)
    assert.is_false(pcall(cache.get, cache, "raises", error))
    assert(cache:set("k", tag))
    assert.equal(tag, cache:peek("k"))
    assert(cache:stats().hits)
  end
  do
    local semaphore <close> = assert(client:semaphore("gc", { permits = 1 }))
    local permit <close> = assert(semaphore:acquire())
    assert(permit.token and permit:extend() and not semaphore:acquire())
    local queue <close> = assert(client:queue("gc", { retention = 0.001 }))
    assert(queue:push_many { { payload = { tag } }, { payload = tag, unique = tag } })
    local job <close> = assert(queue:pop(0, { renew = true }))
    assert(job:progress(1) and job:extend())
    local next_job <close> = assert(job:ack_next { result = tag })
    assert(next_job:nack { error = tag, fatal = true })
    assert(#queue:dead() > 0 and queue:peek(next_job.id).error == tag and queue:purge("dead") > 0 and queue:check())
    local lock <close> = assert(client:rwlock("gc"))
    local writer <close> = assert(lock:write())
    assert(client:fence_guard("gc", writer.fence))
  end
  assert(client:stats().closed and client:metrics())
  assert.is_false(pcall(redmoon.connect, "redis://localhost", { [tag] = 1 }))
  local other <close> = assert(redmoon.connect(helper.server().url, {
    credentials = function() return "default", "any" end,
  }))
  assert.equal(tag, other:echo(tag))
end

-- The same kinds of objects, each forgotten in the middle of its life.
local function use_and_forget(client, i)
  local tag = "tag" .. i
  local other = assert(redmoon.connect(helper.server().url, { pool_size = 1, min_idle = 1, loop = "blocking" }))
  assert.equal(tag, other:echo(tag))
  local credentials = assert(redmoon.connect(helper.server().url, {
    credentials = function() return "default", tag end, loop = "blocking",
  }))
  assert.equal(tag, credentials:echo(tag))
  assert(client:lock("forgotten" .. tag))
  assert(client:semaphore("forgotten" .. tag, { permits = 1 }):acquire())
  assert(client:rwlock("forgotten" .. tag):read())
  local forgotten = assert(client:queue("forgotten" .. tag))
  assert(forgotten:push(tag) and forgotten:push(tag) and forgotten:pop(0, { renew = true }) and forgotten:pop_many(2))
  assert(client:rate_limiter { algorithm = "sliding_log", limit = 10, window = 1, name = tag })
  assert(client:counter("forgotten" .. tag))
  local cache = assert(client:cache { name = "forgotten", ttl = 5 })
  assert(cache:get(tag, function() return tag end))
  assert(client:blocklist("forgotten"):check { jti = tag })
  assert(assert(client:with { timeout = 3 }):on("command", function() return tag end))
  assert(client:on("connect", function() return tag end)):close()
  assert(assert(client:sscan("members")):next())
  local inside = {
    coroutine.create(function() return other:transaction("k", function() coroutine.yield() end) end),
    coroutine.create(function() return client:pipeline(function(p) coroutine.yield(p:echo(tag)) end) end),
    coroutine.create(function() return cache:get("w" .. tag, coroutine.yield) end),
    coroutine.create(function() return client:with_lock("w" .. tag, {}, function() coroutine.yield() end) end),
  }
  for _, thread in ipairs(inside) do assert(coroutine.resume(thread)) end
  assert.equal(1, other:stats().in_use)
end

-- Bytes that `rounds` calls of `use` leave behind in Lua.
local function growth(client, use, rounds)
  calm()
  local before = collectgarbage("count")
  for _ = 1, rounds do
    serial = serial + 1
    use(client, serial)
  end
  calm()
  return (collectgarbage("count") - before) * 1024
end

describe("the collector", function()
  local client

  before_each(function()
    client = helper.client { loop = "blocking" } -- coroutines are left lying here, under no loop
    for i = 1, 300 do assert(client:sadd("members", "member" .. i)) end
  end)
  after_each(function()
    calm()
    client:close()
  end)

  for name, storm in pairs(collectors) do
    for what, use in pairs { closed = use_and_close, forgotten = use_and_forget } do
      it(("finds nothing left of what was %s, %s"):format(what, name), function()
        local function stormy(...)
          storm()
          use(...)
          debug.sethook()
        end
        growth(client, stormy, 3) -- caches are filled
        local open = descriptors() - client:stats().total
        -- Tables grow and shrink by powers of two; what is kept shows in every batch.
        local least = math.huge
        for _ = 1, 4 do least = math.min(least, growth(client, stormy, 10)) end
        assert(least < 500, ("10 rounds leave at least %d bytes"):format(least))
        local stats = client:stats()
        assert(descriptors() - stats.total <= open + 2, "one that stayed open each round would make 40")
        assert.equal(0, stats.in_use)
        assert.equal(stats.idle, stats.total)
        assert.equal("PONG", client:ping())
      end)
    end
  end

  it("gives back, closed, the connection of a transaction whose coroutine was abandoned", function()
    local lone <close> = assert(redmoon.connect(helper.server().url,
      { pool_size = 1, client_name = "abandoned", loop = "blocking" }))
    local function connections()
      local _, count = assert(client:call("CLIENT", "LIST")):gsub("name=abandoned", "")
      return count
    end
    local thread = coroutine.create(function()
      return lone:transaction("k", function(tx)
        tx:get("k")
        coroutine.yield("inside")
      end)
    end)
    local _, where = coroutine.resume(thread)
    assert.equal("inside", where)
    assert.equal(1, lone:stats().in_use)
    assert.equal(1, connections())
    thread = nil -- luacheck: ignore
    calm()
    local stats = lone:stats()
    assert.equal(0, stats.in_use)
    assert.equal(0, stats.total)
    assert.equal(1, stats.closed.dirty)
    helper.eventually(client, "the server sees it closed", function() return connections() == 0 end)
    assert.equal("mine", lone:echo("mine"))
  end)

  it("ends an embedded server that was forgotten", function()
    local server = assert(redmoon.embedded())
    local pid = server.pid
    local other = assert(server:connect())
    assert.equal("PONG", other:ping())
    server, other = nil, nil -- luacheck: ignore
    calm()
    helper.eventually(client, "the server ended", function()
      local file = io.open(("/proc/%d/stat"):format(pid))
      if file then file:close() end
      return file == nil
    end)
  end)
end)
