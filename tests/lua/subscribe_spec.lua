-- SPDX-License-Identifier: MIT
-- client:subscribe and client:publish.

local helper = require "tests.lua.helper"
local redmoon = require "redmoon"

local function kill_subscribers(client) return helper.sum(client, "CLIENT", "KILL", "TYPE", "pubsub") end

-- A server learns of a closed connection in its own time.
local function nobody_listens(client)
  helper.eventually(client, "nobody listens", function() return client:publish("c", "x") == 0 end)
end

local function reconnected(client, sub, times)
  helper.eventually(client, times .. " reconnections", function()
    local stats = sub:stats()
    return stats.reconnects >= times and stats.connected
  end)
end

helper.over_each_way(describe, "a subscription", function(way)
  local client, sub

  before_each(function()
    client = helper.fresh(way)
  end)
  after_each(function()
    if sub then sub:close() end
    sub = nil
    client:close()
  end)

  it("receives what is published, byte for byte and in order", function()
    sub = assert(client:subscribe { channels = { "news" } })
    assert.equal(1, client:publish("news", "a\0b\r\n"))
    for i = 1, 100 do client:publish("news", i) end
    assert.same({ kind = "message", channel = "news", payload = "a\0b\r\n" }, sub:receive(20))
    for i = 1, 100 do assert.equal(tostring(i), sub:receive(20).payload) end
    assert.equal(1, select("#", sub:receive(0)))
    assert.is_nil(sub:receive(0))
    assert.is_nil(sub:receive(0.01))
  end)

  it("tells the pattern, and the kind of channel", function()
    sub = assert(client:subscribe { channels = { "n" }, patterns = { "n*", "?" } })
    assert.equal(3, client:publish("n", "x"))
    local seen = {}
    for _ = 1, 3 do
      local m = sub:receive(20)
      seen[#seen + 1] = m.pattern or "-"
    end
    table.sort(seen)
    assert.same({ "-", "?", "n*" }, seen)
    if client:call("COMMAND", "INFO", "SSUBSCRIBE")[1] == redmoon.null then
      helper.assert_failure("UNAVAILABLE", sub:add { shards = { "s" } })
      return
    end
    assert.is_true(sub:add { shards = { "s" } })
    assert.equal(1, client:spublish("s", "y"))
    assert.same({ kind = "message", channel = "s", payload = "y", shard = true }, sub:receive(20))
    assert.equal(1, sub:stats().shards)
  end)

  it("adds and removes while it receives", function()
    sub = assert(client:subscribe {})
    assert.is_false(sub:stats().connected)
    assert.is_true(sub:add { channels = { "a", "b", "a" } })
    assert.equal(1, client:publish("a", "1"))
    assert.is_true(sub:remove { channels = { "a", "unknown" } })
    assert.equal(0, client:publish("a", "lost"))
    client:publish("b", "2")
    assert.equal("1", sub:receive(20).payload)
    assert.equal("2", sub:receive(20).payload)
    assert.equal(1, sub:stats().channels)
    assert.is_true(sub:remove {})
    assert.is_true(sub:remove { channels = { "b" }, patterns = { "none" } })
    assert.equal(0, client:publish("b", "lost"))
  end)

  it("tells of a loss before the next message, and goes on", function()
    sub = assert(client:subscribe { channels = { "c" }, patterns = { "p*" } })
    for round = 1, 3 do
      assert.is_true(kill_subscribers(client) >= 1) -- a sentinel is one, too
      reconnected(client, sub, round)
      assert.equal(1, client:publish("c", "after"))
      assert.equal(1, client:publish("pq", "after"))
      local gap = sub:receive(20)
      assert.equal("gap", gap.kind)
      assert.equal(1, gap.reconnects)
      assert.equal(0, gap.dropped)
      assert.is_true(gap.down_time >= 0)
      assert.equal("c", sub:receive(20).channel)
      assert.equal("p*", sub:receive(20).pattern)
    end
    assert.equal(3, sub:stats().gaps)
  end)

  it("counts what finds no room", function()
    sub = assert(client:subscribe { channels = { "c" }, buffer = 3 })
    for i = 1, 8 do client:publish("c", i) end
    helper.eventually(client, "8 messages", function() return sub:stats().received == 8 end)
    assert.same({ kind = "gap", reconnects = 0, dropped = 5, down_time = 0.0 }, sub:receive(20))
    for i = 6, 8 do assert.equal(tostring(i), sub:receive(20).payload) end
    local stats = sub:stats()
    assert.equal(3, stats.delivered)
    assert.equal(5, stats.dropped)
    assert.equal(0, stats.buffered)
  end)

  it("is read by a loop that ends with it", function()
    sub = assert(client:subscribe { channels = { "c" } })
    for i = 1, 5 do client:publish("c", i) end
    local seen = {}
    for m in sub:messages() do
      seen[#seen + 1] = m.payload
      if #seen == 5 then sub:close() end
    end
    assert.same({ "1", "2", "3", "4", "5" }, seen)
    assert.is_true(sub:close())
    helper.assert_raises("the subscription is closed", function() sub:receive(0) end)
    nobody_listens(client)
  end)

  it("ends by its overflow where that is asked for", function()
    sub = assert(client:subscribe { channels = { "c" }, buffer = 1, overflow = "close" })
    for i = 1, 3 do client:publish("c", i) end
    helper.eventually(client, "one that finds no room", function() return sub:stats().dropped == 1 end)
    assert.equal("1", sub:receive(20).payload)
    assert.equal(1, sub:receive(20).dropped)
    helper.assert_failure("TOO_LARGE", sub:receive())
    helper.assert_raises("TOO_LARGE: the subscription has ended", function()
      for _ in sub:messages() do error("none expected") end
    end)
  end)

  it("belongs to its client, and keeps it open", function()
    local other = helper.connect(way)
    sub = assert(other:subscribe { channels = { "c" } })
    assert.equal(1, other:stats().subscriptions)
    other:close()
    client:publish("c", "x")
    assert.equal("x", sub:receive(20).payload)
    helper.assert_failure("CLOSED", other:subscribe { channels = { "c" } })
  end)
end)

describe("client:subscribe", function()
  local client

  setup(function() client = helper.client() end)
  teardown(function() client:close() end)

  it("refuses what is not acceptable, at the caller's line", function()
    local cases = {
      { { channel = { "x" } }, "unknown option 'channel' %(did you mean 'channels'%?%)" },
      { { channels = "x" }, "channels: a list of strings or numbers expected, got string" },
      { { channels = { {} } }, "channels%[1%]: string or number expected, got table" },
      { { buffer = 0 }, "option 'buffer': 0 is not accepted; it takes an integer from 1 to 10000000" },
      { { overflow = "drop" }, "subscription option overflow: 'drop' is not accepted; give \"drop_oldest\"" },
      { { ping_interval = 0.001 }, "option 'ping_interval': 0.001 is not accepted" },
      { { max_backoff = 0.01 }, "subscription option max_backoff: 10 ms is not accepted; give 50 to" },
    }
    for _, case in ipairs(cases) do
      helper.assert_raises("subscribe_spec.lua:%d+: " .. case[2], function() client:subscribe(case[1]) end)
    end
    local sub <close> = assert(client:subscribe {})
    helper.assert_raises("unknown option 'buffer'", function() sub:add { buffer = 1 } end)
    helper.assert_raises("option 'timeout': %-1", function() sub:receive(-1) end)
  end)

  it("fails where calls fail", function()
    local nobody <close> = assert(redmoon.connect("unix:///nonexistent/socket", { max_retries = 1 }))
    local _, detail = helper.assert_failure("CONNECT", nobody:subscribe { channels = { "c" } })
    assert.equal(2, detail.attempts)
  end)

  it("is closed by its scope and by the collector", function()
    do
      local sub <close> = assert(client:subscribe { channels = { "c" } })
      assert.equal(1, client:publish("c", "x"))
      assert.equal("x", sub:receive(20).payload)
    end
    nobody_listens(client)
    assert(client:subscribe { channels = { "c" } })
    collectgarbage()
    collectgarbage()
    nobody_listens(client)
    assert.equal(0, client:stats().subscriptions)
  end)

  it("logs in with what the credentials function says", function()
    assert(client:call("ACL", "SETUSER", "listener", "on", ">pw", "+@all", "~*", "&*"))
    local asked = 0
    local other <close> = assert(helper.server():connect {
      credentials = function()
        asked = asked + 1
        return "listener", "pw"
      end,
    })
    local sub <close> = assert(other:subscribe { channels = { "c" } })
    assert.is_true(asked > 0)
    assert.equal(1, client:publish("c", "x"))
    kill_subscribers(client)
    reconnected(client, sub, 1)
    client:publish("c", "y")
    assert.equal("x", sub:receive(20).payload)
    assert.equal("gap", sub:receive(20).kind)
    assert.equal("y", sub:receive(20).payload)
    assert(client:call("ACL", "DELUSER", "listener"))
    assert.equal("gap", sub:receive(20).kind) -- a deleted user's connections are closed
    local message = helper.assert_failure("WRONGPASS", sub:receive(20))
    assert.is_nil(message:find("pw", 1, true))
  end)

  it("shows nothing of what it carries", function()
    local sub <close> = assert(client:subscribe { channels = { "s3cret" } })
    assert.is_nil(tostring(sub):find("s3cret", 1, true))
    assert.is_nil(client:metrics():find("s3cret", 1, true))
  end)
end)
