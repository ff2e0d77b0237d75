-- SPDX-License-Identifier: MIT
-- client:topic with durable: what is kept, who missed it, and who has a name.

local helper = require "tests.lua.helper"

local function durable(client, retention) return assert(client:topic("d", { durable = true, retention = retention })) end

helper.over_each_way(describe, "a durable topic", function(way)
  local client, topic

  before_each(function()
    client = helper.fresh(way)
    topic = durable(client)
  end)
  after_each(function()
    topic:close()
    client:close()
  end)

  local function publish(from, to)
    for i = from, to do assert.equal(i, assert(topic:publish("p" .. i)).seq) end
  end
  local function expect(reader, from, to)
    for i = from, to do assert.same({ kind = "message", seq = i, payload = "p" .. i }, reader:receive(20)) end
  end

  it("gives what found no room, in order and once", function()
    local reader <close> = assert(topic:subscribe { buffer = 2 })
    publish(1, 250)
    expect(reader, 1, 250)
    assert.is_nil(reader:receive(0))
    local stats = reader:stats()
    assert.equal(250, stats.delivered)
    assert.is_true(stats.filled > 0)
    assert.equal(0, stats.gaps + stats.lost)
  end)

  it("gives what was missed while the link was away, though nothing more comes", function()
    local reader <close> = assert(topic:subscribe())
    publish(1, 1)
    expect(reader, 1, 1)
    assert.is_true(client:call("CLIENT", "KILL", "TYPE", "pubsub") >= 1) -- a sentinel is one, too
    publish(2, 9)
    expect(reader, 2, 9)
    assert.equal(0, reader:stats().gaps)
  end)

  it("tells exactly what it keeps no longer", function()
    assert(client:config("SET", "stream-node-max-entries", 1))
    local short <close> = durable(client, { length = 4 })
    local reader <close> = assert(topic:subscribe { buffer = 1 })
    for i = 1, 200 do assert(short:publish("p" .. i)) end
    local m = reader:receive(20)
    local seen, missing = 0, 0
    while true do
      if m.kind == "gap" then
        assert.equal(seen + missing + 1, m.from)
        missing = missing + m.count
      else
        seen = seen + 1
        assert.equal(seen + missing, m.seq)
      end
      if seen + missing == 200 then break end
      m = reader:receive(20)
    end
    assert.is_true(seen >= 4 and missing > 0)
    assert.equal(missing, reader:stats().lost)
    assert(client:config("SET", "stream-node-max-entries", 100))
  end)

  it("begins anew, and gives all of that", function()
    local reader <close> = assert(topic:subscribe())
    publish(1, 2)
    expect(reader, 1, 2)
    client:call("CLIENT", "KILL", "TYPE", "pubsub")
    client:flushall()
    publish(1, 3)
    assert.same({ kind = "gap", unknown = true }, reader:receive(20))
    expect(reader, 1, 3)
  end)

  it("has readers that go on where they have acknowledged", function()
    do
      local reader <close> = assert(topic:reader("mail"))
      publish(1, 5)
      expect(reader, 1, 4)
      assert.is_true(reader:ack(2))
      assert.same({ delivered = 4, missed = 0, lagged = 0, unknown = 0, buffered = 1, seq = 4, acked = 2, lag = 1 },
        reader:stats())
    end
    local again <close> = assert(topic:reader("mail"))
    expect(again, 3, 5)
    assert.is_nil(again:receive(0))
    assert.is_nil(again:receive(0.01))
    assert.is_true(again:ack())
    local other <close> = assert(topic:reader("log", { from = "start", batch = 2 }))
    local late <close> = assert(topic:reader("new"))
    expect(other, 1, 5)
    publish(6, 6)
    expect(late, 6, 6)
    expect(again, 6, 6)
    local list = assert(topic:readers())
    for _, info in ipairs(list) do
      assert.is_true(info.idle >= 0)
      info.idle = nil
    end
    assert.same({ { name = "log", acked = 0, lag = 6 }, { name = "mail", acked = 5, lag = 1 },
      { name = "new", acked = 5, lag = 1 } }, list)
  end)

  it("has one reader of a name, the last", function()
    publish(1, 1)
    local first <close> = assert(topic:reader("mail", { from = "start" }))
    expect(first, 1, 1)
    local second <close> = assert(topic:reader("mail"))
    helper.assert_failure("LOST", first:receive(0))
    helper.assert_failure("LOST", first:ack())
    expect(second, 1, 1)
    assert.is_true(topic:remove_reader("mail"))
    assert.is_false(topic:remove_reader("mail"))
    helper.assert_failure("LOST", second:ack())
    assert.same({}, topic:readers())
  end)

  it("tells a reader what it lagged behind, by number, and keeps what is held for it", function()
    assert(client:config("SET", "stream-node-max-entries", 1))
    local short <close> = durable(client, { length = 3 })
    local holding <close> = durable(client, { length = 3, hold = 10 })
    local reader <close> = assert(topic:reader("slow"))
    for i = 1, 8 do assert(holding:publish("p" .. i)) end
    expect(reader, 1, 2)
    assert(reader:ack())
    local again <close> = assert(topic:reader("slow"))
    assert(short:publish("p9"))
    assert.same({ kind = "lagged", from = 3, to = 6, missed = 4 }, again:receive(20))
    expect(again, 7, 9)
    assert.is_true(again:ack(6)) -- what was missed is done with, too
    local stats = again:stats()
    assert.same({ 4, 1, 0, 6 }, { stats.missed, stats.lagged, stats.unknown, stats.acked })
    assert(client:config("SET", "stream-node-max-entries", 100))
  end)

  it("tells a reader that the numbers have begun anew", function()
    publish(1, 3)
    local reader <close> = assert(topic:reader("r", { from = "start" }))
    expect(reader, 1, 3)
    assert(reader:ack())
    client:del("redmoon:{d}:topic")
    publish(1, 2)
    assert.same({ kind = "lagged", unknown = true }, reader:receive(20))
    expect(reader, 1, 2)
    assert.is_true(reader:ack(1))
    local again <close> = assert(topic:reader("r"))
    expect(again, 2, 2)
  end)

  it("is read by a loop", function()
    publish(1, 4)
    local reader <close> = assert(topic:reader("r", { from = "start" }))
    local sum = 0
    for m in reader:messages() do
      sum = sum + m.seq
      assert(reader:ack())
      if m.seq == 4 then reader:close() end
    end
    assert.equal(10, sum)
    helper.assert_raises("the reader is closed", function() reader:receive(0) end)
  end)

  it("publishes a repeated request once", function()
    assert.equal(1, topic:publish("x", { request_id = "r" }).seq)
    assert.equal(1, topic:publish("x", { request_id = "r" }).seq)
    assert.equal(1, client:xlen("redmoon:{d}:topic.log"))
  end)

  it("is not published to by who does not keep its messages", function()
    publish(1, 1)
    local plain <close> = assert(client:topic("d"))
    local _, message, code = plain:publish("x")
    assert.equal("ERR", code)
    assert.matches("publish with durable = true", message)
  end)
end)

describe("a durable topic's options", function()
  local client

  setup(function() client = helper.client() end)
  teardown(function() client:close() end)

  it("are checked", function()
    for _, bad in ipairs { { 0, "option 'retention': 0 is not accepted; it takes seconds from 0.001" },
      { "1", "option 'retention': a string is not accepted; it takes seconds" },
      { { length = 0 }, "option 'length': 0 is not accepted" }, { { age = "x" }, "option 'age': a string" },
      { { hold = 1.5 }, "option 'hold': 1.5" }, { { lenght = 1 }, "did you mean 'length'" } } do
      helper.assert_raises("topic_durable_spec.lua:%d+: .*" .. bad[2], function()
        client:topic("d", { durable = true, retention = bad[1] })
      end)
    end
    local topic <close> = assert(client:topic("d", { durable = true, retention = 3600 }))
    assert(topic:publish("x"))
    local ttl = client:pttl("redmoon:{d}:topic.log")
    assert.is_true(ttl > 3500000 and ttl <= 3600000)
    helper.assert_raises("reader name", function() topic:reader("") end)
    helper.assert_raises("reader option from: 'middle' is not accepted", function()
      topic:reader("r", { from = "middle" })
    end)
    helper.assert_raises("option 'batch': 0", function() topic:reader("r", { batch = 0 }) end)
    helper.assert_raises("did you mean 'batch'", function() topic:reader("r", { bach = 1 }) end)
    local reader <close> = assert(topic:reader("r", { from = "start" }))
    helper.assert_raises("ack: 1 was not received yet", function() reader:ack(1) end)
    helper.assert_raises("1 or more", function() reader:ack(0) end)
    local plain <close> = assert(client:topic("p"))
    helper.assert_raises("only a durable topic has named readers", function() plain:reader("r") end)
    helper.assert_raises("only a durable topic", function() plain:readers() end)
    helper.assert_raises("only a durable topic", function() plain:remove_reader("r") end)
    assert.is_true(topic:remove_reader("r"))
  end)

  it("of readers that the collector closes do not matter", function()
    local topic <close> = assert(client:topic("d", { durable = true }))
    assert(topic:reader("r"))
    collectgarbage()
    collectgarbage()
    assert.equal(1, #topic:readers())
    assert.is_true(topic:remove_reader("r"))
  end)
end)
