-- SPDX-License-Identifier: MIT
-- client:rate_limiter and the header fields of its decisions.

local redmoon = require "redmoon"
local helper = require "tests.lua.helper"

helper.over_each_way(describe, "a rate limiter", function(way)
  local client

  before_each(function()
    client = helper.fresh(way)
  end)
  after_each(function()
    client:close()
  end)

  local function limiter(options)
    options = options or {}
    options.algorithm = options.algorithm or "sliding_log"
    options.limit = options.limit or 3
    options.window = options.window or 30
    return client:rate_limiter(options)
  end

  it("allows up to its limit and then says when", function()
    local limit = limiter()
    for left = 2, 0, -1 do
      local result = assert(limit:allow("user"))
      assert.is_true(result.allowed)
      assert.equal(3, result.limit)
      assert.equal(left, result.remaining)
      assert.equal(0.0, result.retry_after)
    end
    local result = assert(limit:allow("user"))
    assert.is_false(result.allowed)
    assert.equal(0, result.remaining)
    assert.is_true(result.retry_after > 25 and result.retry_after <= 30)
    assert.is_true(result.reset_after >= result.retry_after and result.reset_after <= 30)
    assert.is_true(limit:allow("another").allowed)
  end)

  it("takes costs, and says never for one above the limit", function()
    local limit = limiter()
    assert.equal(1, limit:allow("user", 2).remaining)
    assert.is_false(limit:allow("user", 2).allowed)
    local result = limit:allow("user", 4)
    assert.is_false(result.allowed)
    assert.equal(math.huge, result.retry_after)
    assert.is_nil(result:headers()["Retry-After"])
    assert.is_true(limit:allow("user", 1).allowed)
  end)

  it("peeks without taking, and resets", function()
    local limit = limiter()
    assert.equal(3, limit:peek("user").remaining)
    assert.equal(3, limit:peek("user").remaining)
    limit:allow("user", 3)
    assert.is_false(limit:peek("user").allowed)
    assert.is_true(limit:reset("user"))
    assert.equal(3, limit:peek("user").remaining)
  end)

  it("takes numbers and binary strings as keys", function()
    local limit = limiter()
    assert.equal(2, limit:allow(17).remaining)
    assert.equal(1, limit:allow("17").remaining)
    assert.equal(2, limit:allow("\0\255{}").remaining)
  end)

  it("gives RateLimit and Retry-After fields", function()
    local limit = limiter { name = "login", window = 10.5 }
    local fields = limit:allow("user"):headers()
    assert.equal('"login";q=3;w=11', fields["RateLimit-Policy"])
    assert.matches('^"login";r=2;t=1[01]$', fields["RateLimit"])
    assert.is_nil(fields["Retry-After"])
    limit:allow("user", 2)
    local refused = limit:allow("user")
    fields = refused:headers()
    assert.equal(tostring(math.ceil(refused.retry_after)), fields["Retry-After"])
    assert.equal('"login";r=0;t=' .. fields["Retry-After"], fields["RateLimit"])
  end)

  it("fails like any call", function()
    local limit = limiter()
    limit:allow("user")
    for key in client:scan() do client:call("SET", key, "not a list") end
    local value, message, code = limit:allow("user")
    assert.is_nil(value)
    assert.is_string(message)
    assert.is_string(code)
  end)

  -- The options of each algorithm; a window of a day does not end within a test.
  local algorithms = {
    buckets = {}, fixed_window = {}, gcra = { burst = 3 }, sliding_log = {}, sliding_window = {},
  }
  for name, options in pairs(algorithms) do
    it("takes, grants in part, refuses, gives back and resets by " .. name, function()
      local limit = limiter { algorithm = name, window = 86400, burst = options.burst, name = "part" }
      local result = assert(limit:allow("user"))
      assert.is_true(result.allowed)
      assert.equal(1, result.granted)
      assert.equal(2, result.remaining)
      assert.equal("server", result.source)
      assert.equal("part", result.policy)
      assert.is_nil(result.error)
      assert.is_false(limit:allow("user", 3).allowed)
      assert.equal(math.huge, limit:allow("user", 4).retry_after)
      result = limit:allow("user", { cost = 9, partial = true })
      assert.is_true(result.allowed)
      assert.equal(2, result.granted)
      result = limit:allow("user", { partial = true })
      assert.is_false(result.allowed)
      assert.equal(0, result.granted)
      assert.is_true(result.retry_after > 0)
      assert.equal(2, limit:refund("user", 2).granted)
      assert.equal(2, limit:peek("user").remaining)
      assert.equal(1, limit:refund("user", 1000).granted)
      assert.equal(0, limit:refund("user").granted)
      assert.equal(3, limit:peek("user").remaining)
      assert.equal(0, client:dbsize())
      limit:allow("user", 3)
      assert.is_true(limit:reset("user"))
      assert.equal(3, limit:peek("user").remaining)
    end)
  end

  it("answers a repeated request as the first time", function()
    local limit = limiter { algorithm = "gcra" }
    for _ = 1, 2 do
      assert.equal(1, limit:allow("user", { cost = 2, request_id = "order-1" }).remaining)
      assert.equal(1, limit:peek("user").remaining)
    end
    for _ = 1, 2 do
      assert.equal(1, limit:refund("user", { cost = 1, request_id = "back-1" }).granted)
      assert.equal(2, limit:peek("user").remaining)
    end
  end)

  it("has windows of the calendar", function()
    local limit = client:rate_limiter { algorithm = "fixed_window", limit = 3, calendar = "day" }
    local result = limit:allow("user")
    local time = client:call("TIME")
    local left = 86400 - math.tointeger(time[1]) % 86400
    -- The clock was read later, perhaps on the next day.
    assert.is_true(math.abs(result.reset_after - left) < 60 or left > 86340)
    assert.equal('"rl";q=3;w=86400', result:headers()["RateLimit-Policy"])
  end)

  it("decides many, each by itself", function()
    local limit = limiter { algorithm = "gcra", name = "many" }
    client:lpush("redmoon:{broken}:many.gcra", "x")
    local results = assert(limit:allow_many { { "a" }, { "b", 4 }, { "a", 2 }, { "broken" }, { "a" }, { 17 } })
    assert.equal(6, #results)
    assert.is_true(results[1].allowed)
    assert.equal(math.huge, results[2].retry_after)
    assert.equal(0, results[3].remaining)
    assert.is_true(redmoon.is_error(results[4]))
    assert.equal("WRONGTYPE", results[4].code)
    assert.is_false(results[5].allowed)
    assert.matches("^%d+$", results[5]:headers()["Retry-After"])
    assert.equal(2, results[6].remaining)
    assert.equal(1, limit:allow("17").remaining)
  end)

  it("says what on_error says when Redis fails, and counts it", function()
    for policy, allowed in pairs { allow = true, deny = false } do
      local limit = limiter { algorithm = "fixed_window", on_error = policy }
      client:call("DEL", "redmoon:{user}:rl.fixed")
      client:call("LPUSH", "redmoon:{user}:rl.fixed", "x")
      local result = assert(limit:allow("user", 2))
      assert.equal(allowed, result.allowed)
      assert.equal("error", result.source)
      assert.equal(allowed and 2 or 0, result.granted)
      assert.matches("WRONGTYPE", result.error)
      assert.equal("error", limit:allow_many({ { "user" } })[1].source)
      assert.is_nil(result:headers()["Retry-After"]) -- nobody knows when
    end
    assert.matches('redmoon_rate_limiter_total{result="error"} 4\n', client:metrics())
    helper.assert_failure("WRONGTYPE", limiter({ algorithm = "fixed_window" }):allow("user"))
  end)

  it("decides several limits, all or none", function()
    local short = limiter { algorithm = "gcra", limit = 2, window = 3600, name = "short" }
    local long = limiter { algorithm = "sliding_log", limit = 3, window = 86400, name = "long" }
    local limits <close> = redmoon.rate_limits { short, long }
    local result = assert(limits:allow("user", 2))
    assert.is_true(result.allowed)
    assert.equal("short", result.policy)
    assert.equal('"short";q=2;w=3600', result:headers()["RateLimit-Policy"])
    assert.equal("short", limits:allow("user").policy)
    assert.equal(1, long:peek("user").remaining)
    short:reset("user")
    result = limits:allow("user", 2)
    assert.is_false(result.allowed)
    assert.equal("long", result.policy)
    assert.equal(3, result.limit)
    assert.equal(2, short:peek("user").remaining)
    assert.equal(1, limits:allow("user", { cost = 2, partial = true }).granted)
    helper.assert_raises("limiters 1 and 2 have the same name", function()
      redmoon.rate_limits { short, short }
    end)
    helper.assert_raises("element 2 is not an open rate limiter", function()
      redmoon.rate_limits { short, client }
    end)
    helper.assert_raises("0 limiters are not accepted; give 1 to 8", function()
      redmoon.rate_limits {}
    end)
    helper.assert_raises("cost is an integer", function()
      limits:allow("user", 1001)
    end)
    limits:close()
    helper.assert_raises("the rate limits are closed", function()
      limits:allow("user")
    end)
  end)

  it("remembers refusals, if it is told to", function()
    local limit = limiter { algorithm = "gcra", window = 3600, deny_cache = true }
    limit:allow("user", 3)
    assert.equal("server", limit:allow("user").source)
    local result = limit:allow("user")
    assert.equal("local", result.source)
    assert.is_false(result.allowed)
    assert.is_true(result.retry_after > 1000 and result.retry_after <= 1200)
    assert.matches("^1[012]%d%d$", result:headers()["Retry-After"])
    limit:refund("user", 1)
    assert.is_true(limit:allow("user").allowed)
    local forgetful = limiter { algorithm = "gcra", window = 3600, deny_cache = false }
    assert.equal("server", forgetful:allow("user").source)
    assert.equal("server", forgetful:allow("user").source)
  end)

  it("waits until it is let through, and not longer than it may", function()
    local limit = limiter { limit = 1, window = 0.05 }
    for _ = 1, 4 do assert.is_true(assert(limit:wait("user", nil, 600)).allowed) end
    local long = limiter { limit = 1, window = 86400, name = "long" }
    assert.is_true(long:wait("user", 1, 0).allowed)
    local result = assert(long:wait("user", { cost = 1 }, 3600))
    assert.is_false(result.allowed)
    assert.is_true(result.retry_after > 80000)
    helper.assert_raises("option 'timeout': a nil is not accepted; it takes seconds", function()
      long:wait("user", 1)
    end)
  end)

  it("raises for what it does not take", function()
    helper.assert_raises("needs the options 'algorithm', 'limit' and 'window'", function()
      client:rate_limiter { limit = 1, window = 1 }
    end)
    helper.assert_raises("option algorithm: 'leaky' is not accepted; give \"buckets\", ", function()
      limiter { algorithm = "leaky" }
    end)
    helper.assert_raises("option 'limit': 0 is not accepted; it takes an integer from 1 to 1000000000", function()
      limiter { limit = 0 }
    end)
    helper.assert_raises("option 'window': 0 is not accepted; it takes seconds from 0.001", function()
      limiter { window = 0 }
    end)
    helper.assert_raises("rate limiter option name: 'a b' is not accepted", function()
      limiter { name = "a b" }
    end)
    helper.assert_raises("option burst belongs to the algorithm \"gcra\"", function()
      limiter { burst = 1 }
    end)
    helper.assert_raises("option on_error: 'open' is not accepted; give \"error\", \"allow\" or \"deny\"", function()
      limiter { on_error = "open" }
    end)
    helper.assert_raises("unknown option 'windw' %(did you mean 'window'%?%)", function()
      limiter { windw = 1 }
    end)
    local limit = limiter()
    helper.assert_raises("a cost is an integer from 1 to 1000000000", function()
      limit:allow("user", 0)
    end)
    helper.assert_raises("a cost is an integer from 1 to 1000000000 %(sliding_log: 1000%)", function()
      limit:allow("user", 1001)
    end)
    helper.assert_raises("option 'cost': 1.5 is not accepted", function()
      limit:allow("user", { cost = 1.5 })
    end)
    helper.assert_raises("unknown option 'request' %(did you mean 'request_id'%?%)", function()
      limit:allow("user", { request = "1" })
    end)
    helper.assert_raises("request_id: not accepted", function()
      limit:allow("user", { request_id = "a b" })
    end)
    helper.assert_raises("bad argument #1 to 'allow' %(string or number expected, got nil%)", function()
      limit:allow(nil)
    end)
    helper.assert_raises("allow_many: item 2 is a string; give {key, cost}", function()
      limit:allow_many { { "a" }, "b" }
    end)
    helper.assert_raises("allow_many: the key of item 1 is a nil; give a string or a number", function()
      limit:allow_many { {} }
    end)
    helper.assert_raises("allow_many: the cost of item 1 is not accepted; give an integer from 1", function()
      limit:allow_many { { "a", 0 } }
    end)
    helper.assert_raises("allow_many: 0 items are not accepted; give 1 to 1000", function()
      limit:allow_many {}
    end)
    helper.assert_raises("a cost is an integer", function()
      limit:refund("user", 0)
    end)
    limit:close()
    helper.assert_raises("the rate limiter is closed", function()
      limit:allow("user")
    end)
    assert.equal(0, client:dbsize())
  end)
end)
