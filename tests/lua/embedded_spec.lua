-- SPDX-License-Identifier: MIT
-- redmoon.embedded, and the module's table.

local redmoon = require "redmoon"
local helper = require "tests.lua.helper"

local function exists(path)
  local file = io.open(path)
  if file then file:close() end
  return file ~= nil
end

describe("an embedded server", function()
  it("serves until it is closed, and leaves nothing", function()
    local server = assert(redmoon.embedded())
    assert.matches("^unix:///", server.url)
    assert.equal("integer", math.type(server.pid))
    local client <close> = assert(server:connect { client_name = "spec" })
    assert.equal("PONG", client:ping())
    local proc = "/proc/" .. server.pid .. "/status"
    assert.is_true(exists(proc))
    assert.is_true(server:close())
    assert.is_true(server:close())
    assert.is_false(exists(proc))
    assert.is_nil(server.url)
    assert.equal("redmoon.embedded (closed)", tostring(server))
    helper.assert_raises("the server is closed", function()
      server:connect()
    end)
    assert.is_nil((client:ping()))
  end)

  it("lives as long as one of its clients", function()
    local client = assert(assert(redmoon.embedded()):connect())
    collectgarbage()
    collectgarbage()
    assert.equal("PONG", client:ping())
    local view <close> = client:with { timeout = 2 }
    client:close()
    client = nil -- luacheck: ignore 311
    collectgarbage()
    collectgarbage()
    assert.equal("PONG", view:ping())
  end)

  it("takes arguments of the server", function()
    local server <close> = assert(redmoon.embedded { config = { "--maxmemory", "64mb", "--databases", 3 } })
    local client <close> = assert(server:connect())
    assert.same({ maxmemory = "67108864" }, client:config("GET", "maxmemory"))
    assert.same({ databases = "3" }, client:config("GET", "databases"))
  end)

  it("fails for a program that is not there", function()
    local value, message, code = redmoon.embedded { server = "/no/such/redis-server" }
    assert.is_nil(value)
    assert.matches("/no/such/redis%-server", message)
    assert.is_string(code)
  end)

  it("raises for what it does not take", function()
    helper.assert_raises("unknown option 'sever' %(did you mean 'server'%?%)", function()
      redmoon.embedded { sever = "x" }
    end)
    helper.assert_raises("option 'config': a list of strings or numbers expected, got string", function()
      redmoon.embedded { config = "--maxmemory 64mb" }
    end)
    helper.assert_raises("option 'config'%[1%]: string or number expected, got boolean", function()
      redmoon.embedded { config = { true } }
    end)
    helper.assert_raises("option 'start_timeout': a string is not accepted", function()
      redmoon.embedded { start_timeout = "5" }
    end)
  end)
end)

describe("the module", function()
  it("has a version and says what it is made of", function()
    assert.matches("^%d+%.%d+%.%d+$", redmoon.version)
    local info = redmoon.build_info()
    assert.equal(redmoon.version, info.version)
    assert.matches("^Lua 5.4", info.lua)
    assert.is_string(info.libsodium)
    assert.matches("OpenSSL", info.openssl)
  end)

  it("has a null that is the light userdata of nothing, as lua-cjson's is", function()
    assert.equal("userdata", type(redmoon.null))
    assert.equal("(null)", ("%p"):format(redmoon.null))
    assert.is_nil(debug.getmetatable(redmoon.null))
  end)

  it("knows errors from everything else", function()
    for _, value in ipairs { 1, "x", {}, true, redmoon.null, print } do
      assert.is_false(redmoon.is_error(value))
    end
    assert.is_false(redmoon.is_error(nil))
    assert.is_false(redmoon.is_error(setmetatable({}, {})))
  end)

  it("can be loaded again beside objects of its first life", function()
    local client = helper.client()
    local count = 0
    client:on("command", function() count = count + 1 end)
    local loaded = {}
    for name, value in pairs(package.loaded) do
      if name:find("^redmoon") then loaded[name], package.loaded[name] = value, nil end
    end
    local again = require "redmoon"
    for name, value in pairs(loaded) do package.loaded[name] = value end
    collectgarbage()
    assert.not_equal(redmoon, again)
    assert.equal("PONG", client:ping())
    assert.equal(1, count)
    assert.is_true(client:transaction(function(tx) tx:set("k", 1) end)[1])
    local other <close> = assert(again.connect(helper.server().url))
    local lock <close> = assert(other:lock("l"))
    helper.assert_failure("LOCKED", client:lock("l"))
    assert.is_true(lock:held())
    client:close()
    client = nil -- luacheck: ignore 311
    collectgarbage()
  end)

  it("leaves no global behind", function()
    for name in pairs(_G) do assert.is_nil(tostring(name):find("redmoon", 1, true)) end
  end)
end)
