-- SPDX-License-Identifier: MIT
-- client:scan, hscan, sscan, zscan.

local redmoon = require "redmoon"
local helper = require "tests.lua.helper"

for _, way in ipairs(helper.ways) do
  describe("scanning over " .. way.name, function()
    local client

    setup(function()
      client = helper.connect(way)
    end)
    before_each(function()
      assert(client:flushall())
    end)
    teardown(function()
      client:close()
    end)

    local function fill(count)
      assert(client:pipeline(function(p)
        for i = 1, count do p:set("key:" .. i, i) end
      end))
    end

    it("sees every key", function()
      fill(1500)
      local seen, count = {}, 0
      for key in client:scan { match = "key:*", count = 100 } do
        if not seen[key] then count = count + 1 end
        seen[key] = true
      end
      assert.equal(1500, count)
    end)

    it("heeds match and type", function()
      fill(20)
      client:hset("hash", "f", 1)
      local keys = {}
      for key in client:scan { type = "hash" } do keys[#keys + 1] = key end
      assert.same({ "hash" }, keys)
      keys = {}
      for key in client:scan { match = "key:1?" } do keys[#keys + 1] = key end
      assert.equal(10, #keys)
    end)

    it("takes no options, too, and ends at once when there is nothing", function()
      for key in client:scan() do error(key) end
      fill(1)
      local scan <close> = client:scan()
      assert.equal("key:1", scan:next())
      assert.is_nil((scan:next()))
      assert.is_nil((scan:next()))
    end)

    it("gives field and value of a hash", function()
      local want = {}
      for i = 1, 1000 do
        want["f" .. i] = tostring(i)
        client:hset("h", "f" .. i, i)
      end
      local got = {}
      for field, value in client:hscan("h", { count = 50 }) do got[field] = value end
      assert.same(want, got)
      for field in client:hscan("h", { match = "f7" }) do assert.equal("f7", field) end
    end)

    it("gives the members of a set", function()
      client:sadd("s", "a", "b", 3)
      local got = {}
      for member in client:sscan("s") do got[#got + 1] = member end
      table.sort(got)
      assert.same({ "3", "a", "b" }, got)
    end)

    it("gives member and score of a sorted set, the score a float", function()
      client:zadd("z", 1.5, "a", 2, "b", "inf", "c", "-inf", "d")
      local got = {}
      for member, score in client:zscan("z") do
        assert.equal("float", math.type(score))
        got[member] = score
      end
      assert.same({ a = 1.5, b = 2.0, c = math.huge, d = -math.huge }, got)
    end)

    it("raises in a loop and returns a failure from next", function()
      client:set("text", "x")
      helper.assert_raises("WRONGTYPE", function()
        for _ in client:hscan("text") do error("unreachable") end
      end)
      local scan <close> = client:hscan("text")
      helper.assert_failure("WRONGTYPE", scan:next())
      assert.is_nil((scan:next()))
    end)

    it("can be left early, closed twice, and nested", function()
      fill(500)
      local scan
      local steps = 0
      for key in client:scan { count = 10 } do
        for inner in client:scan { match = key } do assert.equal(key, inner) end
        steps = steps + 1
        if steps == 3 then break end
      end
      scan = client:scan { count = 10 }
      assert.is_string(scan:next())
      assert.is_true(scan:close())
      assert.is_true(scan:close())
      assert.is_nil((scan:next()))
      assert.equal(0, client:stats().in_use)
    end)

    it("raises for what it does not take, and leads to the plain command", function()
      helper.assert_raises('the plain command is client:call%("scan", ...%)', function()
        client:scan(0)
      end)
      helper.assert_raises("unknown option 'cuont' %(did you mean 'count'%?%)", function()
        client:scan { cuont = 1 }
      end)
      helper.assert_raises("option 'count': 0 is not accepted; it takes an integer from 1", function()
        client:scan { count = 0 }
      end)
      helper.assert_raises("unknown option 'type'", function()
        client:hscan("h", { type = "hash" })
      end)
      helper.assert_raises("bad argument #1 to 'hscan' %(string or number expected, got nil%)", function()
        client:hscan(nil)
      end)
      assert.same({ "0", {} }, client:call("HSCAN", "none", 0))
    end)
  end)
end

describe("a scan", function()
  it("goes on after its client's handle was collected", function()
    local client = helper.client()
    client:set("k", 1)
    local scan <close> = client:scan()
    client = nil -- luacheck: ignore 311
    collectgarbage()
    collectgarbage()
    assert.equal("k", scan:next())
  end)

  it("cannot begin on a closed client", function()
    local client = helper.client()
    client:close()
    helper.assert_failure("CLOSED", client:scan())
    assert.is_false(redmoon.is_error(client))
  end)
end)
