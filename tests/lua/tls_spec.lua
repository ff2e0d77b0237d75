-- SPDX-License-Identifier: MIT
-- rediss: who is believed without being told anything, and what the option `tls` changes.

local redmoon = require "redmoon"
local helper = require "tests.lua.helper"

describe("over TLS", function()
  local ca_file
  local servers, urls = {}, {}

  setup(function()
    local certs = helper.certs()
    ca_file = certs.ca_file
    for _, name in ipairs { "good", "wrong_name", "unknown_ca" } do
      servers[name], urls[name] = helper.tls_server(certs[name])
    end
  end)
  teardown(function()
    for _, server in pairs(servers) do server:close() end
  end)

  -- Nothing may have reached the server, which is asked by its unix socket.
  local function assert_refused(name, why, options)
    local client <close> = assert(redmoon.connect(urls[name], options))
    local message, detail = helper.assert_failure("TLS", client:set("k", "v"))
    assert.matches(why, message)
    assert.equal("not_sent", detail.outcome)
    assert.equal("tls", detail.phase)
    assert.is_string(detail.address)
    local _, pipelined = helper.assert_failure("TLS", client:pipeline(function(p) p:set("k", "v") end))
    assert.equal("not_sent", pipelined.replies[1].outcome)
    local direct <close> = assert(servers[name]:connect())
    assert.equal(0, direct:dbsize())
  end

  local function assert_accepted(name, options, query)
    local client <close> = assert(redmoon.connect(urls[name] .. (query or ""), options))
    assert.equal("PONG", client:ping())
  end

  it("a certificate of a CA that nobody named is refused", function()
    for name in pairs(servers) do assert_refused(name, "unknown CA") end
  end)

  it("ca_file makes the right certificate accepted, and it alone", function()
    assert_accepted("good", { tls = { ca_file = ca_file } })
    assert_accepted("good", nil, "?tls_ca_file=" .. ca_file)
    assert_refused("unknown_ca", "unknown CA", { tls = { ca_file = ca_file } })
  end)

  it("a certificate for another name is refused, until that name is asked for", function()
    assert_refused("wrong_name", "not for '127%.0%.0%.1'", { tls = { ca_file = ca_file } })
    assert_accepted("wrong_name", { tls = { ca_file = ca_file, server_name = "other.example" } })
    assert_refused("good", "not for 'other%.example'", { tls = { ca_file = ca_file, server_name = "other.example" } })
  end)

  it("verify = false accepts them all, and verify = true is what goes without saying", function()
    for name in pairs(servers) do
      assert_accepted(name, { tls = { verify = false } })
      assert_accepted(name, nil, "?tls_verify=false")
    end
    assert_refused("wrong_name", "not for", { tls = { ca_file = ca_file, verify = true } })
    assert_refused("unknown_ca", "unknown CA", { tls = { verify = true } })
  end)
end)
