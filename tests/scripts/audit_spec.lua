-- SPDX-License-Identifier: MIT
-- audit_fix and audit_undo on a real server, beside a model that knows which key has which end: random steps, with the
-- clock given to the scripts.
local here = debug.getinfo(1, "S").source:match("^@(.*/)") or "./"
package.path = here .. "support/?.lua;" .. package.path
local scripts = require "scripts"
local server = require "server"
local steps_of = require "steps"

local DONE, KEPT, GONE = 1, 0, -1
local MOST = 63244800000

describe("audit_fix and audit_undo", function()
  local redis, stop, fix, undo
  setup(function()
    redis, stop = server.start()
    fix = redis:call("SCRIPT", "LOAD", scripts.expand_timed("audit_fix"))
    undo = redis:call("SCRIPT", "LOAD", scripts.expand_timed("audit_undo"))
  end)
  teardown(function() stop() end)
  before_each(function() redis:call("FLUSHALL") end)

  local seed = math.tointeger(os.getenv("SEED") or 20261125)
  local steps = steps_of(20000)
  print("SEED=" .. seed .. " STEPS=" .. steps)

  local MAKE = {
    {"SET", "v"}, {"RPUSH", "a", "b"}, {"SADD", "a"}, {"HSET", "f", "v"}, {"ZADD", "1", "a"}, {"XADD", "*", "f", "v"},
  }

  local function make(key)
    local how = MAKE[math.random(#MAKE)]
    redis:call("DEL", key)
    redis:call(how[1], key, table.unpack(how, 2))
  end

  -- One call of a script, and what the key was and is.
  local function observed(sha, key, argument, now)
    local replies = redis:batch {
      {"DUMP", key}, {"PTTL", key}, {"EVALSHA", sha, 1, key, argument, now}, {"DUMP", key}, {"PTTL", key},
    }
    assert(replies[1] == replies[4], "the value was changed")
    return replies[3], replies[2], replies[5]
  end

  it("do what the model does over random steps, and what they refuse stays as it was", function()
    math.randomseed(seed)
    local ends, exists, done = {}, {}, {fixed = 0, undone = 0, kept = 0, gone = 0}
    local now = 1700000000000000
    for step = 1, steps do
      local key = "app:" .. math.random(4)
      local what = math.random(10)
      now = now + math.random(0, 300000)
      if what == 1 then
        make(key)
        exists[key], ends[key] = true, nil
      elseif what == 2 then
        redis:call("DEL", key)
        exists[key], ends[key] = nil, nil
      elseif what == 3 and exists[key] then -- somebody else's
        redis:call("PEXPIRE", key, 86400000)
        ends[key] = "another"
      elseif what <= 6 then
        local ttl = math.random(50000000, MOST)
        local answer, before, after = observed(fix, key, ttl, now)
        if not exists[key] then
          assert.are.same({GONE}, answer)
          done.gone = done.gone + 1
        elseif ends[key] then
          assert.are.same({KEPT}, answer)
          assert.is_true(after <= before and after > before - 60000)
          done.kept = done.kept + 1
        else
          assert.are.same({DONE, now // 1000 + ttl}, answer, step)
          assert.is_true(after <= ttl and after > ttl - 60000)
          ends[key] = {at = now // 1000 + ttl, ttl = ttl}
          done.fixed = done.fixed + 1
        end
      else
        -- The key's TTL runs by the real clock, which hardly moves: the difference is that of the virtual one.
        local mine = type(ends[key]) == "table" and ends[key]
        local far = math.random(3) == 1
        local at = mine and mine.at or 1800000000000
        local shift = far and ({5000, 60000, -60000})[math.random(3)] or math.random(600, 900)
        local at_us = ((mine and mine.at - mine.ttl or now // 1000) + shift) * 1000
        local answer, before, after = observed(undo, key, at, at_us)
        if not exists[key] then
          assert.are.same({GONE}, answer)
        elseif mine and not far then
          assert.are.same({DONE}, answer)
          assert.are.equal(-1, after)
          ends[key] = nil
          done.undone = done.undone + 1
        else
          assert.are.same({KEPT}, answer)
          assert.is_true(after == before or after > 0 and after <= before and after > before - 60000)
          done.kept = done.kept + 1
        end
      end
    end
    for _, count in pairs(done) do assert.is_true(count > steps / 100) end
  end)

  it("undo leaves a key alone that has no lifetime at the very moment when it would end", function()
    redis:call("SET", "k", "v")
    assert.are.same({KEPT}, (observed(undo, "k", "1700000000000", "1700000000000000")))
  end)

  it("bad input is refused before anything is written", function()
    redis:call("SET", "k", "v")
    redis:call("SET", "t", "v", "PX", "50000000")
    for _, bad in ipairs {"0", "-1", "1.5", "x", "", "nan", "inf"} do
      for _, sha in ipairs {fix, undo} do
        for _, key in ipairs {"k", "t"} do
          local answer, before, after = observed(sha, key, bad, "1700000000000000")
          assert.is_truthy(answer.err and answer.err:find("ERR audit_", 1, true), bad)
          assert.is_true(before == -1 and after == -1 or after > 40000000)
        end
      end
    end
    assert.is_truthy(observed(fix, "k", tostring(MOST + 1), "1700000000000000").err)
    assert.are.equal(-1, redis:call("PTTL", "k"))
    assert.are.same({DONE, 1700000000000 + MOST}, (observed(fix, "k", tostring(MOST), "1700000000000000")))
    assert.is_truthy(observed(undo, "k", "9007199254740992", "1700000000000000").err)
  end)
end)
