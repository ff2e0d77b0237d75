-- SPDX-License-Identifier: MIT
-- client:rate_limiter and the header fields of its decisions.

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
    limit:close()
    helper.assert_raises("the rate limiter is closed", function()
      limit:allow("user")
    end)
    assert.equal(0, client:dbsize())
  end)
end)
