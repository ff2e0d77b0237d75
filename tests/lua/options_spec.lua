-- SPDX-License-Identifier: MIT
-- redmoon.connect and client:with: what they take, and what they say about the rest.

local redmoon = require "redmoon"
local helper = require "tests.lua.helper"

describe("redmoon.connect", function()
  it("takes a URL, a table, both, or neither", function()
    local url = helper.server().url
    for _, client in ipairs {
      assert(redmoon.connect(url)),
      assert(redmoon.connect(url, {})),
      assert(redmoon.connect(url, { pool_size = 1, timeout = 5, client_name = "spec", database = 3 })),
    } do
      assert.equal("PONG", client:ping())
      client:close()
    end
    assert(redmoon.connect()):close()
    assert(redmoon.connect { pool_size = 2 }):close()
  end)

  it("uses the options it was given", function()
    local client <close> = assert(redmoon.connect(helper.server().url, { client_name = "named-here", database = 3 }))
    local info = client:client("INFO")
    assert.matches("name=named%-here", info)
    assert.matches("db=3", info)
    assert.matches("resp=3", info)
  end)

  it("does not dial before the first command", function()
    local client <close> = assert(redmoon.connect("unix:///tmp/redmoon-no-such-socket"))
    assert.equal(0, client:stats().dials)
    assert.equal(0, client:stats().total)
  end)

  it("takes no name for another that goes on behind a NUL byte", function()
    helper.assert_raises("unknown option 'pool_size", function()
      redmoon.connect("redis://127.0.0.1", { ["pool_size\0x"] = 1 })
    end)
  end)

  it("raises for unknown options at the caller's line, naming the nearest", function()
    local line = debug.getinfo(1, "l").currentline + 2
    local message = helper.assert_raises("unknown option 'pool_sise' %(did you mean 'pool_size'%?%)", function()
      redmoon.connect("redis://localhost", { pool_sise = 3 })
    end)
    assert.equal("options_spec.lua:" .. line, message:match("options_spec.lua:%d+"))
    helper.assert_raises("unknown option 'zzzzzzzzzzzz' %(known are: .*pool_size", function()
      redmoon.connect { zzzzzzzzzzzz = 1 }
    end)
    helper.assert_raises("options are given by name; got a key of type number", function()
      redmoon.connect { "redis://localhost" }
    end)
  end)

  it("raises for values of the wrong type or out of range", function()
    local function refused(pattern, options)
      helper.assert_raises(pattern, function()
        redmoon.connect("redis://localhost", options)
      end)
    end
    refused("option 'pool_size': 0 is not accepted; it takes an integer from 1", { pool_size = 0 })
    refused("option 'pool_size': 1.5 is not accepted", { pool_size = 1.5 })
    refused("option 'pool_size': a string is not accepted", { pool_size = "3" })
    refused("option 'database': 1.5 is not accepted", { database = 1.5 })
    refused("option 'timeout': %-1 is not accepted", { timeout = -1 })
    refused("option 'timeout': .*nan is not accepted", { timeout = 0 / 0 })
    refused("option 'client_name': a number is not accepted", { client_name = 3 })
    refused("option 'client_name': a NUL byte is not accepted", { client_name = "a\0b" })
    refused("option 'default_ttl': a string is not accepted", { default_ttl = "x" })
    refused("option 'protocol': 4 is not accepted", { protocol = 4 })
    refused("bad argument #2 to 'connect' %(table expected, got number%)", 5)
  end)

  it("checks the tls table by itself", function()
    helper.assert_raises("unknown option 'cafile' %(did you mean 'ca_file'%?%)", function()
      redmoon.connect("rediss://localhost", { tls = { cafile = "x" } })
    end)
    helper.assert_raises("option 'tls': a table of options expected, got boolean", function()
      redmoon.connect("rediss://localhost", { tls = true })
    end)
    helper.assert_raises("option 'verify': a number is not accepted; it takes", function()
      redmoon.connect("rediss://localhost", { tls = { verify = 1 } })
    end)
    helper.assert_raises("unknown option 'tls_ca_file'", function()
      redmoon.connect("rediss://localhost", { tls_ca_file = "x" })
    end)
    assert(redmoon.connect("rediss://localhost", { tls = { verify = false, min_version = "1.3" } })):close()
  end)

  it("takes the loops it knows, and tables of functions", function()
    assert(redmoon.connect { loop = "blocking" }):close()
    assert(redmoon.connect { loop = { wait = function() end } }):close()
    helper.assert_raises("unknown loop 'cqueue' %(did you mean 'cqueues'%?%)", function()
      redmoon.connect { loop = "cqueue" }
    end)
    helper.assert_raises("option 'loop': its function 'wait' is missing; it takes", function()
      redmoon.connect { loop = { sleep = print } }
    end)
    helper.assert_raises("option 'loop': its function 'forget' is a number; it takes", function()
      redmoon.connect { loop = { wait = print, forget = 1 } }
    end)
    helper.assert_raises("option 'loop': a boolean is not accepted; it takes", function()
      redmoon.connect { loop = true }
    end)
  end)

  it("returns CONFIG for a URL that is wrong, without showing it", function()
    local message = helper.assert_failure("CONFIG", redmoon.connect("redis://:hunter2@host:99999/0"))
    assert.is_nil(message:find("hunter2", 1, true))
    message = helper.assert_failure("CONFIG", redmoon.connect("redis://localhost?pool_sise=3"))
    assert.matches("pool_size", message)
    helper.assert_failure("CONFIG", redmoon.connect("http://localhost"))
  end)

  it("returns CONFIG for options that contradict each other", function()
    helper.assert_failure("CONFIG", redmoon.connect("redis://localhost", { pool_size = 2, min_idle = 3 }))
    helper.assert_failure("CONFIG", redmoon.connect("redis://localhost", {
      username = "u", password = "p", credentials = function() end,
    }))
    helper.assert_raises("option 'credentials': a function that returns user and password expected", function()
      redmoon.connect("redis://localhost", { credentials = "secret" })
    end)
  end)
end)

describe("client:with", function()
  local client

  before_each(function()
    client = helper.client()
  end)
  after_each(function()
    client:close()
  end)

  it("gives a view with other call options and the same pool", function()
    client:ping()
    local view <close> = client:with { timeout = 1, max_retries = 0 }
    assert.equal("PONG", view:ping())
    assert.equal(client:stats().hits, view:stats().hits)
    assert.equal(1, view:stats().dials)
    assert.equal(tostring(client), tostring(view))
  end)

  it("heeds its timeout", function()
    local view <close> = client:with { timeout = 0.05, max_retries = 0 }
    local _, detail = helper.assert_failure("TIMEOUT", view:call("DEBUG", "SLEEP", "0.5"))
    assert.equal("unknown", detail.outcome)
    assert.equal("receive", detail.phase)
    assert.equal("PONG", client:ping())
  end)

  it("outlives the client it was made from", function()
    local view <close> = client:with { timeout = 2 }
    client:close()
    assert.equal("PONG", view:ping())
    helper.assert_failure("CLOSED", client:ping())
  end)

  it("raises for what it does not take", function()
    helper.assert_raises("unknown option 'timeuot' %(did you mean 'timeout'%?%)", function()
      client:with { timeuot = 1 }
    end)
    helper.assert_raises("unknown option 'pool_size'", function()
      client:with { pool_size = 1 }
    end)
    helper.assert_raises("option 'idempotent': a number is not accepted; it takes true or false", function()
      client:with { idempotent = 1 }
    end)
    helper.assert_raises("bad argument #1 to 'with' %(table expected, got no value%)", function()
      client:with()
    end)
  end)
end)
