-- SPDX-License-Identifier: MIT
-- client:counter: what a key counts, until when, and between which bounds.

local helper = require "tests.lua.helper"
local redmoon = require "redmoon"

helper.over_each_way(describe, "a counter", function(way)
  local client

  before_each(function()
    client = helper.fresh(way)
  end)
  after_each(function()
    client:close()
  end)

  it("counts in a window that begins with the first hit", function()
    local counter = assert(client:counter("hits", { window = 30 }))
    assert.same({ value = 0, ttl = 0.0, exists = false }, counter:get("user"))
    assert.same({ value = 1, applied = 1, ttl = 30.0, exists = true }, counter:increment("user"))
    assert.equal(1, client:pexpire("redmoon:{user}:hits.count", 20000))
    local result = assert(counter:increment("user", 4))
    assert.equal(5, result.value)
    assert.equal(4, result.applied)
    assert.is_true(result.ttl > 0 and result.ttl <= 20)
    result = assert(counter:get("user"))
    assert.equal(5, result.value)
    assert.is_nil(result.applied)
    assert.is_true(result.exists and result.ttl <= 20)
    assert.is_true(counter:reset("user"))
    assert.is_false(counter:get("user").exists)
  end)

  it("renews a sliding window and a ttl with each hit", function()
    for _, options in ipairs { { window = 30, mode = "sliding" }, { ttl = 30 } } do
      local counter = assert(client:counter("hits", options))
      counter:increment("user")
      client:pexpire("redmoon:{user}:hits.count", 20000)
      assert.equal(30.0, counter:increment("user").ttl)
    end
  end)

  it("counts for ever without an end", function()
    local counter = assert(client:counter("hits"))
    assert.equal(math.huge, counter:increment("user").ttl)
    assert.equal(-1, client:pttl("redmoon:{user}:hits.count"))
  end)

  it("counts in the periods of a calendar", function()
    for calendar, longest in pairs { minute = 60, hour = 3600, day = 86400, month = 2678400 } do
      local result = assert(client:counter("hits", { calendar = calendar }):increment("user", -3))
      assert.equal(-3, result.value)
      assert.is_true(result.ttl > 0 and result.ttl <= longest)
      assert.is_true(client:pttl("redmoon:{user}:hits." .. calendar) > 0)
    end
  end)

  it("keeps 64 bits", function()
    local counter = assert(client:counter("hits"))
    assert.equal(math.maxinteger, counter:increment("user", math.maxinteger).value)
    local message, detail = helper.assert_failure("OVERFLOW", counter:increment("user"))
    assert.matches("no 64%-bit integer", message)
    assert.equal("answered", detail.outcome)
    assert.equal(math.maxinteger, counter:get("user").value)
    assert.same({ value = -1, applied = math.mininteger, ttl = math.huge, exists = true },
      counter:increment("user", math.mininteger))
    assert.equal("integer", math.type(counter:increment("other", (1 << 53) + 1).value))
    assert.equal((1 << 53) + 1, counter:get("other").value)
  end)

  it("keeps to its bounds", function()
    local counter = assert(client:counter("hits", { window = 30, min = 0, max = 10 }))
    assert.equal(8, counter:increment("user", 8).value)
    local refused = assert(counter:increment("user", 3))
    assert.equal(8, refused.value)
    assert.equal(0, refused.applied)
    assert.equal(0, counter:increment("user", -9).applied)
    assert.same({ value = 0, applied = 0, ttl = 0.0, exists = false }, counter:increment("nobody", -1))
    local full = assert(client:counter("hits", { window = 30, min = 0, max = 10, saturate = true }))
    assert.equal(2, full:increment("user", 3).applied)
    assert.equal(-10, full:increment("user", math.mininteger).applied)
  end)

  it("counts a request once", function()
    local counter = assert(client:counter("hits", { window = 30 }))
    local first = assert(counter:increment("user", 5, { request_id = "a-1" }))
    assert.same(first, counter:increment("user", 5, { request_id = "a-1" }))
    assert.equal(6, counter:increment("user", { request_id = "a-2" }).value)
    assert.equal(6, counter:increment("user", 0).value)
  end)

  it("counts many in one round trip, each for itself", function()
    local counter = assert(client:counter("hits", { window = 30, max = 100 }))
    assert.same({}, counter:increment_many {})
    client:set("redmoon:{bad}:hits.count", "x")
    local results = assert(counter:increment_many { { "a", 5 }, { 17 }, { "bad", 1 }, { "a", 96 },
      { "a", -2, request_id = "r" }, { "a", -2, request_id = "r" } })
    assert.equal(6, #results)
    assert.same({ value = 5, applied = 5, ttl = 30.0, exists = true }, results[1])
    assert.equal(1, results[2].value)
    assert.is_true(redmoon.is_error(results[3]))
    assert.equal("ERR", results[3].code)
    assert.equal(0, results[4].applied)
    assert.equal(3, results[5].value)
    assert.same(results[5], results[6])
    assert.equal(1, counter:get("17").value)
    local list, sums = {}, {}
    for i = 1, 500 do list[i] = { "k" .. i % 7, i % 5 } end
    results = assert(counter:increment_many(list))
    assert.equal(500, #results)
    for i, item in ipairs(list) do -- in their order
      local sum = (sums[item[1]] or 0) + item[2]
      if sum <= 100 then sums[item[1]] = sum end
      assert.equal(sums[item[1]] or 0, results[i].value)
      assert.equal(sum <= 100 and item[2] or 0, results[i].applied)
    end
  end)

  it("fails like any call", function()
    local counter = assert(client:counter("hits", { window = 30 }))
    client:rpush("redmoon:{user}:hits.count", "1")
    for _, method in ipairs { "increment", "get" } do
      local value, _, code = counter[method](counter, "user")
      assert.is_nil(value)
      assert.is_string(code)
    end
  end)

  it("raises for what it does not take", function()
    local raises = helper.assert_raises
    raises("unknown option 'calender' %(did you mean 'calendar'%?%)", client.counter, client, "c", { calender = "day" })
    raises("option 'window': 0 is not accepted; it takes seconds from 0.001", client.counter, client, "c", { window = 0 })
    raises("option 'max': 1.5 is not accepted; it takes an integer", client.counter, client, "c", { max = 1.5 })
    raises("option 'saturate': a number is not accepted", client.counter, client, "c", { saturate = 1 })
    raises("option calendar: 'week' is not accepted; give \"minute\"", client.counter, client, "c", { calendar = "week" })
    raises("give one of them at most", client.counter, client, "c", { calendar = "day", window = 1 })
    raises("option mode: 'x' is not accepted", client.counter, client, "c", { window = 1, mode = "x" })
    raises("min and max: 2 and 1 are not accepted", client.counter, client, "c", { min = 2, max = 1 })
    raises("counter name: 'a b' is not accepted", client.counter, client, "a b")
    local counter = assert(client:counter("c"))
    raises("number has no integer representation", counter.increment, counter, "k", 1.5)
    raises("unknown option 'requestid' %(did you mean 'request_id'%?%)", counter.increment, counter, "k", 1,
      { requestid = "a" })
    raises("request_id: not accepted", counter.increment, counter, "k", 1, { request_id = "a b" })
    raises("bad argument #1 to 'increment' %(string or number expected, got nil%)", function()
      counter:increment(nil)
    end)
    raises("counter key: 0 bytes are not accepted", counter.get, counter, "")
    raises("counter key: 0 bytes are not accepted", counter.reset, counter, "")
    raises("item 2: a list {key, by} expected, got string", counter.increment_many, counter, { { "a" }, "b" })
    raises("item 1: its key is a string or number, got nil", counter.increment_many, counter, { {} })
    raises("item 1: what it counts is an integer, got 1.5", counter.increment_many, counter, { { "a", 1.5 } })
    raises("item 1: its request_id is a string, got boolean", counter.increment_many, counter,
      { { "a", 1, request_id = true } })
    raises("item 1: its request_id has a NUL byte", counter.increment_many, counter, { { "a", 1, request_id = "a\0" } })
    raises("counter key: 0 bytes are not accepted", counter.increment_many, counter, { { "a" }, { "" } })
    local list = {}
    for i = 1, 501 do list[i] = { "k" } end
    raises("501 items are not accepted; give up to 500", counter.increment_many, counter, list)
    counter:close()
    raises("the counter is closed", counter.get, counter, "k")
    assert.equal(0, client:dbsize())
  end)
end)

describe("many counts whose connection fails", function()
  it("say what is known of each", function()
    local other <close> = assert(redmoon.connect("unix:///nonexistent/redis.sock", { max_retries = 0 }))
    local counter = assert(other:counter("hits"))
    local _, detail = helper.assert_failure("CONNECT", counter:increment_many { { "a" }, { "b" } })
    assert.equal("not_sent", detail.outcome)
    assert.equal(2, #detail.replies)
    for _, reply in ipairs(detail.replies) do
      assert.is_true(redmoon.is_error(reply))
      assert.equal("CONNECT", reply.code)
      assert.equal("not_sent", reply.outcome)
    end
  end)
end)
