-- SPDX-License-Identifier: MIT
-- The collector at its most eager while coroutines of a loop are closed, or forgotten, wherever they happen to be:
-- nothing is mixed up, and no descriptor, connection or memory is left.

local helper = require "tests.lua.helper"
local loops = require "tests.lua.loops"
local redmoon = require "redmoon"

local SEED = tonumber(os.getenv "SEED") or os.time()
local names = {}
for name in pairs(loops.calls) do names[#names + 1] = name end
table.sort(names)

local storms = {
  ["without a pause"] = function()
    collectgarbage("incremental", 200, 1000, 1)
    collectgarbage("setpause", 0)
  end,
  ["generational"] = function() collectgarbage("generational", 1, 1) end,
}

local function calm()
  collectgarbage("incremental", 200, 100, 13)
  for _ = 1, 4 do collectgarbage() end
end

local function descriptors()
  local pipe <close> = assert(io.popen("ls /proc/$PPID/fd | wc -l"))
  return assert(pipe:read("n"))
end

local function with(multiplex)
  local loop, client, serial

  before_each(function()
    loop, serial = loops.new(), 0
    local options = { loop = loop, pool_size = 4, pool_timeout = 60, multiplex = multiplex }
    client = assert(redmoon.connect(helper.server().url, options))
    assert(client:flushall())
  end)
  after_each(function()
    calm()
    client:close()
  end)

  local function begin()
    serial = serial + 1
    local co = coroutine.create(loops.calls[names[serial % #names + 1]])
    assert(coroutine.resume(co, client, "tag" .. serial))
    return co
  end

  -- What was forgotten holds a connection until it is found, also if it has grown old.
  local turns = 0
  local function turn()
    turns = turns + 1
    if turns % 20 == 0 then collectgarbage() end
    return loop.turn()
  end

  -- 20 calls at a time, each of which ends by itself, or is closed, or forgotten.
  local function make_calls(storm)
    storm()
    local alive = {}
    for _ = 1, 200 do
      while #alive < 20 do alive[#alive + 1] = begin() end
      turn()
      local i = math.random(#alive)
      if math.random(2) == 1 then
        assert(coroutine.close(alive[i]))
      else
        loop.drop(alive[i])
      end
      table.remove(alive, i)
    end
    for _, co in ipairs(alive) do
      if coroutine.status(co) == "suspended" and math.random(2) == 1 then loop.drop(co) end
    end
    alive = nil -- luacheck: ignore
    while turn() do end
    while loop.forgotten[1] do table.remove(loop.forgotten) end
  end

  -- On a stack of its own, whose dead places keep nothing.
  local function round(storm)
    local co = coroutine.create(make_calls)
    assert(coroutine.resume(co, storm))
    assert.equal("dead", coroutine.status(co))
    co = nil -- luacheck: ignore
    calm()
  end

  for name, storm in pairs(storms) do
    it("finds nothing left of calls that were closed or forgotten on their way: " .. name, function()
      math.randomseed(SEED)
      round(storm) -- caches are filled
      -- Each call of a turn may keep one to wait at; what stays open after each call would make 800.
      local open = descriptors() - client:stats().total
      local least = math.huge
      for _ = 1, 4 do
        assert(client:flushall())
        local before = collectgarbage("count")
        round(storm)
        least = math.min(least, (collectgarbage("count") - before) * 1024)
        local stats = client:stats()
        assert.equal(0, stats.in_use)
        assert.equal(stats.idle, stats.total)
      end
      assert(least < 1000, ("a round leaves at least %d bytes, SEED=%d"):format(least, SEED))
      assert(descriptors() - client:stats().total <= open + 20, "descriptors stay open, SEED=" .. SEED)
      loop.run(function() assert.equal("mine", client:echo("mine")) end)
    end)
  end
end

describe("in a loop, the collector,", function() with(false) end)
describe("in a loop, with a multiplexed client, the collector", function() with(true) end)
