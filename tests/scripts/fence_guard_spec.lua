-- SPDX-License-Identifier: MIT
-- The fence guard on a real server, beside a model that remembers the highest fence.
local here = debug.getinfo(1, "S").source:match("^@(.*/)") or "./"
package.path = here .. "support/?.lua;" .. package.path
local scripts = require "scripts"
local server = require "server"
local steps_of = require "steps"

local GUARD = "redmoon:{r}:guard"
local MAX = 9007199254740991
local MONTH = 30 * 24 * 3600 * 1000

describe("fence_guard", function()
  local redis, stop, sha
  setup(function()
    redis, stop = server.start()
    sha = redis:call("SCRIPT", "LOAD", scripts.expand("fence_guard"))
  end)
  teardown(function() stop() end)
  before_each(function() redis:call("FLUSHALL") end)

  local function guard(fence) return redis:call("EVALSHA", sha, 1, GUARD, fence) end

  local seed = math.tointeger(os.getenv("SEED") or 20261125)
  local steps = steps_of(40000)
  print("SEED=" .. seed .. " STEPS=" .. steps)

  it("never accepts a falling fence, and a refusal leaves DUMP unchanged, over random steps", function()
    math.randomseed(seed)
    local ranges = {{1, 20}, {MAX - 20, MAX}, {1, MAX}, {1760000000000000, 1760000000000100}}
    local done = 0
    while done < steps do
      redis:call("DEL", GUARD)
      local range, highest, dump, accepted = ranges[math.random(#ranges)], 0, false, 0
      local commands, fences = {}, {}
      for i = 1, 200 do
        local near = highest > 0 and math.random(3) == 1
        fences[i] = near and math.min(MAX, math.max(1, highest + math.random(-1, 1))) or math.random(range[1], range[2])
        commands[#commands + 1] = {"EVALSHA", sha, 1, GUARD, fences[i]}
        commands[#commands + 1] = {"DUMP", GUARD}
        commands[#commands + 1] = {"PTTL", GUARD}
        if fences[i] > highest then highest = fences[i] end
      end
      highest = 0
      local replies = redis:batch(commands)
      for i = 1, #fences do
        local answer, after = replies[3 * i - 2], replies[3 * i - 1]
        if fences[i] >= highest then
          highest = fences[i]
          assert.are.same({1, highest}, answer)
          assert.is_true(replies[3 * i] > MONTH - 60000 and replies[3 * i] <= MONTH)
          accepted = accepted + 1
        else
          assert.are.same({0, highest}, answer)
          assert(after == dump, "a refusal changed the key")
        end
        dump = after
      end
      assert.is_true(accepted > 0)
      done = done + #fences
    end
  end)

  it("tells neighbours apart up to 2^53 - 1", function()
    assert.are.same({1, MAX - 1}, guard(MAX - 1))
    assert.are.same({0, MAX - 1}, guard(MAX - 2))
    assert.are.same({1, MAX}, guard(MAX))
    assert.are.same({0, MAX}, guard(MAX - 1))
    assert.are.equal(tostring(MAX), redis:call("GET", GUARD))
  end)

  it("renews its lifetime with what it accepts, and not with what it refuses", function()
    guard(7)
    redis:call("PEXPIRE", GUARD, 5000)
    guard(6)
    assert.is_true(redis:call("PTTL", GUARD) <= 5000)
    guard(7)
    assert.is_true(redis:call("PTTL", GUARD) > MONTH - 60000)
  end)

  it("bad input is refused before anything is written", function()
    for _, bad in ipairs {"0", "-1", "1.5", "x", "", " 1", "1 ", "+1", "01", "1e3", "0x10", "inf", "nan",
      "9007199254740992", "9007199254740993", "18446744073709551616"} do
      local answer = guard(bad)
      assert.is_truthy(answer.err and answer.err:find("from 1 to 9007199254740991", 1, true), bad)
    end
    assert.are.equal(0, redis:call("DBSIZE"))
    for _, foreign in ipairs {"x", "-1", "1.5", "1e3", "", "9007199254740992"} do
      redis:call("SET", GUARD, foreign)
      assert.is_truthy(guard(5).err:find("holds no fence", 1, true), foreign)
      assert.are.equal(foreign, redis:call("GET", GUARD))
    end
    redis:call("DEL", GUARD)
    redis:call("RPUSH", GUARD, "x")
    assert.is_truthy(guard(5).err:find("WRONGTYPE", 1, true))
  end)
end)
