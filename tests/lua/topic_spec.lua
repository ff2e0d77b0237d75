-- SPDX-License-Identifier: MIT
-- client:topic.

local helper = require "tests.lua.helper"

helper.over_each_way(describe, "a topic", function(way)
  local client, topic

  before_each(function()
    client = helper.fresh(way)
    topic = assert(client:topic("t"))
  end)
  after_each(function()
    topic:close()
    client:close()
  end)

  it("numbers what is published, and hands it to its readers", function()
    assert.same({ seq = 1, receivers = 0 }, topic:publish("nobody reads"))
    local reader <close> = assert(topic:subscribe())
    assert.same({ seq = 2, receivers = 1 }, topic:publish("a\0b"))
    topic:publish("")
    assert.same({ kind = "message", seq = 2, payload = "a\0b" }, reader:receive(20))
    assert.same({ kind = "message", seq = 3, payload = "" }, reader:receive(20))
    assert.is_nil(reader:receive(0))
    assert.same({ delivered = 2, filled = 0, lost = 0, gaps = 0, unknown = 0, reconnects = 0, buffered = 0,
      connected = true }, reader:stats())
  end)

  it("publishes a repeated request once", function()
    assert.same({ seq = 1, receivers = 0 }, topic:publish("x", { request_id = "r" }))
    assert.same({ seq = 1, receivers = 0 }, topic:publish("x", { request_id = "r" }))
    assert.equal(2, topic:publish("y").seq)
  end)

  it("tells exactly what found no room", function()
    local reader <close> = assert(topic:subscribe { buffer = 2 })
    for i = 1, 10 do topic:publish(tostring(i)) end
    local seen, missing = 0, 0
    while seen + missing < 10 do
      local m = reader:receive(20)
      if m.kind == "gap" then
        assert.equal(seen + missing + 1, m.from)
        assert.equal(m.to - m.from + 1, m.count)
        missing = missing + m.count
      else
        seen = seen + 1
        assert.equal(seen + missing, m.seq)
        assert.equal(tostring(m.seq), m.payload)
      end
    end
    assert.equal(missing, reader:stats().lost)
  end)

  it("tells that the numbers have begun anew", function()
    local reader <close> = assert(topic:subscribe())
    topic:publish("a")
    client:flushall()
    topic:publish("b")
    assert.equal("a", reader:receive(20).payload)
    assert.same({ kind = "gap", unknown = true }, reader:receive(20))
    assert.same({ kind = "message", seq = 1, payload = "b" }, reader:receive(20))
  end)

  it("goes on after a loss, and is read by a loop", function()
    local reader <close> = assert(topic:subscribe())
    topic:publish("1")
    assert.is_true(helper.sum(client, "CLIENT", "KILL", "TYPE", "pubsub") >= 1) -- a sentinel is one, too
    helper.eventually(client, "a reconnection", function()
      local stats = reader:stats()
      return stats.reconnects == 1 and stats.connected
    end)
    topic:publish("2")
    local sum = 0
    for m in reader:messages() do
      sum = sum + (m.kind == "gap" and m.count or 1)
      if sum == 2 then reader:close() end
    end
    assert.equal(2, sum)
    helper.assert_raises("the reader is closed", function() reader:receive(0) end)
  end)
end)

describe("client:topic", function()
  local client

  setup(function() client = helper.client() end)
  teardown(function() client:close() end)

  it("refuses what is not acceptable", function()
    helper.assert_raises("a topic's name has 1 to 512 bytes", function() client:topic("") end)
    helper.assert_raises("topic_spec.lua:%d+: option 'durable': a string is not accepted", function()
      client:topic("t", { durable = "yes" })
    end)
    helper.assert_raises("topic_spec.lua:%d+: topic: retention is of durable topics only", function()
      client:topic("t", { retention = 60 })
    end)
    helper.assert_raises("unknown option 'durabel' %(did you mean 'durable'%?%)", function()
      client:topic("t", { durabel = true })
    end)
    local topic <close> = assert(client:topic("t"))
    helper.assert_raises("topic_spec.lua:%d+: option 'buffer': 0", function() topic:subscribe { buffer = 0 } end)
    helper.assert_raises("request_id: not accepted", function() topic:publish("x", { request_id = "a b" }) end)
    helper.assert_raises("unknown option 'id'", function() topic:publish("x", { id = "a" }) end)
    assert.equal(0, client:exists("redmoon:{t}:topic"))
  end)

  it("is closed by the collector, readers too", function()
    local topic = assert(client:topic("t"))
    assert(topic:subscribe())
    collectgarbage()
    collectgarbage()
    assert.equal(0, client:stats().subscriptions)
    topic:close()
    helper.assert_raises("the topic is closed", function() topic:publish("x") end)
  end)
end)
