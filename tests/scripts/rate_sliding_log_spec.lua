-- SPDX-License-Identifier: MIT
-- The sliding log on a real server, in virtual time, beside a model that keeps every stamp.
local here = debug.getinfo(1, "S").source:match("^@(.*/)") or "./"
package.path = here .. "support/?.lua;" .. package.path
local scripts = require "scripts"
local server = require "server"

local LOG = "redmoon:{k}:rl.log"
local ALLOWED, DENIED, NEVER = 1, 0, -1
local SECOND = 1000000
local START = 1760000000 * SECOND

-- The model: stamps of what was taken, the oldest first; a unit taken at t is in use during [t, t + window).
local Model = {}
Model.__index = Model

local function new_model(limit, window)
  return setmetatable({limit = limit, window = window, stamps = {}}, Model)
end

function Model:look(now)
  local last = self.stamps[#self.stamps] or 0
  local at, live = math.max(now, last), {}
  for _, stamp in ipairs(self.stamps) do
    if stamp + self.window > at then live[#live + 1] = stamp end
  end
  return at, live
end

function Model:answer(now, cost, take)
  local at, live = self:look(now)
  local reset = #live > 0 and live[#live] + self.window - now or 0
  if #live + cost > self.limit then
    local retry = NEVER
    if cost <= self.limit then retry = live[#live + cost - self.limit] + self.window - now end
    return {DENIED, math.max(self.limit - #live, 0), retry, reset}
  end
  if not take then return {ALLOWED, self.limit - #live, 0, reset} end
  for _ = 1, cost do live[#live + 1] = at end
  self.stamps = live
  return {ALLOWED, self.limit - #live, 0, at + self.window - now}
end

describe("rate_allow with a sliding_log", function()
  local redis, stop, allow_sha, peek_sha
  setup(function()
    redis, stop = server.start()
    allow_sha = redis:call("SCRIPT", "LOAD", scripts.expand_timed("rate_allow"))
    peek_sha = redis:call("SCRIPT", "LOAD", scripts.expand_timed("rate_peek"))
  end)
  teardown(function() stop() end)
  before_each(function() redis:call("FLUSHALL") end)

  -- Windows are 100 s and more of virtual time: the server's own clock does not end a key within a test.
  local function allow_command(key, now, limit, window, cost)
    return {"EVALSHA", allow_sha, 1, key, cost or 1, 0, 1, "sliding_log", limit, window, 0, now}
  end
  local function peek_command(key, now, limit, window)
    return {"EVALSHA", peek_sha, 1, key, "sliding_log", limit, window, 0, now}
  end
  -- status, remaining, retry, reset: the answer without granted and place, which are those of one limit.
  local function core_of(answer, cost)
    if answer.err then return answer end
    assert(answer[2] == (cost and answer[1] == ALLOWED and cost or 0), "granted something else")
    assert(answer[3] == 1, "another limit bound")
    return {answer[1], answer[4], answer[5], answer[6]}
  end
  local function allow(now, limit, window, cost)
    return core_of(redis:call(table.unpack(allow_command(LOG, now, limit, window, cost))), cost or 1)
  end
  local function peek(now, limit, window)
    return core_of(redis:call(table.unpack(peek_command(LOG, now, limit, window))))
  end

  local seed = math.tointeger(os.getenv("SEED") or 20261122)
  print("SEED=" .. seed)

  it("answers as the model over 120,000 random steps, and a refusal or a peek leaves DUMP unchanged", function()
    math.randomseed(seed)
    local steps = 0
    for round = 1, 60 do
      local key = "redmoon:{" .. round .. "}:rl.log"
      local limit, window = math.random(1, round % 5 == 0 and 400 or 12), math.random(100 * SECOND, 400 * SECOND)
      local model, now, ready, commands, expected = new_model(limit, window), START, nil, {}, {}
      for _ = 1, 2000 do
        local how = math.random(12)
        if how == 1 then now = now - math.random(0, window) -- the clock is set back
        elseif how == 2 and ready then now = ready
        elseif how == 3 and ready then now = ready - 1
        elseif how == 4 then now = now + window - math.random(0, 2)
        elseif how <= 8 then now = now + math.random(0, 2 * window // limit)
        elseif how == 9 then now = now + 1 end
        local take = math.random(4) > 1
        local cost = not take and 1 or math.random(3) > 1 and 1 or math.random(1, math.min(limit + 1, 1000))
        local answer = model:answer(now, cost, take)
        ready = answer[3] > 0 and now + answer[3] or nil
        commands[#commands + 1] = take and allow_command(key, now, limit, window, cost)
          or peek_command(key, now, limit, window)
        commands[#commands + 1] = {"DUMP", key}
        expected[#expected + 1] = {answer = answer, same = not take or answer[1] == DENIED, now = now, cost = cost,
          take = take}
      end
      local dump = false
      for from = 1, #commands, 400 do
        local replies = redis:batch({table.unpack(commands, from, from + 399)})
        for i = 1, #replies, 2 do
          local want = expected[(from + i) // 2]
          local got = core_of(replies[i], want.take and want.cost)
          for place = 1, 4 do
            if got[place] ~= want.answer[place] then
              error(("round %d: at %d, cost %d: place %d is %s, the model says %s"):format(round, want.now,
                want.cost, place, tostring(got[place] or got.err), want.answer[place]))
            end
          end
          if want.same then assert(replies[i + 1] == dump, "a refusal or a peek changed the key") end
          dump = replies[i + 1]
          steps = steps + 1
        end
      end
    end
    assert.are.equal(120000, steps)
  end)

  it("never admits more than 100 in any window, whatever the arrivals", function()
    math.randomseed(seed)
    local limit, window = 100, 100 * SECOND
    local arrivals = {
      at_the_edges = function(now, i, ready) -- all at the end of a window, all at the start of the next
        return i % 150 == 0 and (ready or now) + math.random(-1, 1) or now
      end,
      greedy = function(now, _, ready) return ready or now end,
      early = function(now, i, ready) return ready and ready - i % 2 or now end,
      bursts = function(now) return now + (math.random(80) == 1 and math.random(window) or 0) end,
      steady = function(now) return now + window // 110 end,
    }
    for name, arrive in pairs(arrivals) do
      redis:call("FLUSHALL")
      local now, ready, admitted = START, nil, {}
      for i = 1, 3000 do
        now = math.max(now, arrive(now, i, ready))
        local cost = name == "bursts" and math.random(3) or 1
        local answer = allow(now, limit, window, cost)
        ready = answer[3] > 0 and now + answer[3] or nil
        if answer[1] == ALLOWED then
          for _ = 1, cost do admitted[#admitted + 1] = now end
        end
      end
      assert.is_true(#admitted > limit, name .. " admitted only " .. #admitted)
      for i = limit + 1, #admitted do
        assert.is_true(admitted[i] - admitted[i - limit] >= window, name .. ": more than the limit in one window")
      end
    end
  end)

  it("a refused client that tries on and on is let in again when its time has come", function()
    local limit, window, admitted = 10, 100 * SECOND, 0
    for i = 0, 1999 do -- twice the limit for ten windows: the rate is kept, nobody is locked out
      if allow(START + i * window // 200, limit, window)[1] == ALLOWED then admitted = admitted + 1 end
    end
    assert.are.equal(100, admitted)
  end)

  it("retry_after is exact: it succeeds then, and fails one microsecond before", function()
    local limit, window = 10, 100 * SECOND
    for i = 0, 9 do allow(START + i * 7, limit, window) end
    for cost = 1, 10 do
      local now = START + 12345
      local answer = allow(now, limit, window, cost)
      assert.are.same({DENIED, 0, (cost - 1) * 7 + window - 12345, 63 + window - 12345}, answer)
      assert.are.equal(DENIED, allow(now + answer[3] - 1, limit, window, cost)[1])
      local copy = redis:call("DUMP", LOG)
      assert.are.equal(ALLOWED, allow(now + answer[3], limit, window, cost)[1])
      redis:call("RESTORE", LOG, 0, copy, "REPLACE")
    end
  end)

  it("peek says what a unit would be answered", function()
    assert.are.same({ALLOWED, 2, 0, 0}, peek(START, 2, 100 * SECOND))
    assert.are.equal(0, redis:call("EXISTS", LOG))
    allow(START, 2, 100 * SECOND, 2)
    assert.are.same({DENIED, 0, 100 * SECOND - 5, 100 * SECOND - 5}, peek(START + 5, 2, 100 * SECOND))
    assert.are.same({ALLOWED, 2, 0, 0}, peek(START + 100 * SECOND, 2, 100 * SECOND))
  end)

  it("a cost above the limit is never allowed, and changes nothing", function()
    assert.are.same({DENIED, 5, NEVER, 0}, allow(START, 5, 100 * SECOND, 6))
    assert.are.equal(0, redis:call("EXISTS", LOG))
    assert.are.same({DENIED, 5, NEVER, 0}, allow(START, 5, 100 * SECOND, 1000))
    assert.are.same({ALLOWED, 0, 0, 100 * SECOND}, allow(START, 5, 100 * SECOND, 5))
  end)

  it("a cost of n is n units at one instant", function()
    local limit, window = 30, 100 * SECOND
    allow(START, limit, window, 7)
    local together = redis:call("DUMP", LOG)
    redis:call("DEL", LOG)
    for _ = 1, 7 do allow(START, limit, window) end
    assert.are.equal(together, redis:call("DUMP", LOG))
  end)

  it("a clock that is set back admits nothing more", function()
    local limit, window = 5, 100 * SECOND
    for _ = 1, 5 do allow(START, limit, window) end
    for _, back in ipairs {1, SECOND, 99 * SECOND, 3600 * SECOND} do
      local answer = allow(START - back, limit, window)
      assert.are.same({DENIED, 0, window + back, window + back}, answer)
    end
    assert.are.equal(DENIED, allow(START + window - 1, limit, window)[1])
    -- Units taken while it is behind count from the last stamp, not from the clock.
    redis:call("DEL", LOG)
    for i = 0, 4 do assert.are.equal(ALLOWED, allow(START - i * 50 * SECOND, limit, window)[1]) end
    assert.are.equal(DENIED, allow(START + window - 1, limit, window)[1])
    assert.are.equal(ALLOWED, allow(START + window, limit, window, 5)[1])
  end)

  it("what expired is dropped, at most 1,000 units in one call, and the list never outgrows the limit", function()
    local limit, window = 2500, 100 * SECOND
    for _, cost in ipairs {1000, 1000, 500} do allow(START, limit, window, cost) end
    assert.are.equal(2500, redis:call("LLEN", LOG))
    assert.are.equal(limit - 1, allow(START + window, limit, window, 1)[2])
    assert.are.equal(1501, redis:call("LLEN", LOG))
    allow(START + window, limit, window, 1000)
    assert.are.equal(1501, redis:call("LLEN", LOG))
    assert.are.equal(limit - 2001, allow(START + window, limit, window, 1000)[2])
    assert.are.equal(2001, redis:call("LLEN", LOG))
  end)

  it("a lowered limit counts what was taken under the old one", function()
    for i = 0, 9 do allow(START + i, 10, 100 * SECOND) end
    assert.are.same({DENIED, 0, 100 * SECOND + 7 - 9, 100 * SECOND}, allow(START + 9, 3, 100 * SECOND))
    assert.are.equal(DENIED, allow(START + 100 * SECOND + 6, 3, 100 * SECOND)[1])
    assert.are.equal(ALLOWED, allow(START + 100 * SECOND + 7, 3, 100 * SECOND)[1])
  end)

  it("the key lives a window after the last unit, rounded up to ms, and outlives what it counts", function()
    allow(START, 5, 100 * SECOND + 1)
    local left = redis:call("PTTL", LOG)
    assert.is_true(left > 99000 and left <= 100002)
    -- With the server's own clock, and a clock set back by an hour.
    local now = tonumber(redis:call("TIME")[1]) * SECOND
    redis:call("DEL", LOG)
    allow(now, 5, 100 * SECOND)
    allow(now - 3600 * SECOND, 5, 100 * SECOND)
    assert.is_true(redis:call("PTTL", LOG) > 3690000)
    redis:call("DEL", LOG)
    local answer = redis:call("EVAL", scripts.expand("rate_allow"), 1, LOG, 1, 0, 1, "sliding_log", 5,
      100 * SECOND, 0)
    assert.are.same({ALLOWED, 1, 1, 4, 0, 100 * SECOND}, answer)
    local expire = redis:call("PEXPIRETIME", LOG)
    assert.is_true(expire * 1000 >= math.tointeger(redis:call("LINDEX", LOG, 0)) + 100 * SECOND)
  end)

  it("rate_reset forgets what was used", function()
    local reset = scripts.expand("rate_reset")
    assert.are.same({0}, redis:call("EVAL", reset, 1, LOG))
    allow(START, 5, 100 * SECOND, 5)
    assert.are.same({1}, redis:call("EVAL", reset, 1, LOG))
    assert.are.equal(0, redis:call("EXISTS", LOG))
  end)

  it("bad input is refused before anything is written", function()
    for _, bad in ipairs {{"x", 1, 1}, {0, 1, 1}, {1.5, 1, 1}, {1, 0, 1}, {1, "1e-3", 1}, {1, 1, 0},
      {5000, 1, 1001}, {1, 1, -1}, {1, 1, "nan"}, {"inf", 1, 1}} do
      assert.is_truthy(allow(START, bad[1], bad[2], bad[3]).err:find("integers", 1, true), table.concat(bad, " "))
    end
    assert.is_truthy(peek(START, 0, 1).err:find("integers", 1, true))
    assert.is_truthy(peek(START, 1, "x").err:find("integers", 1, true))
    assert.are.equal(0, redis:call("DBSIZE"))
    redis:call("SET", LOG, "x")
    assert.is_truthy(allow(START, 5, 5).err:find("WRONGTYPE", 1, true))
    assert.are.equal("x", redis:call("GET", LOG))
  end)

  it("the log of a full limit of 1,000 takes about 10 bytes a unit", function()
    for i = 1, 1000 do allow(START + i * 997, 1000, 100 * SECOND) end
    local bytes = redis:call("MEMORY", "USAGE", LOG, "SAMPLES", 0)
    print("bytes of a log of 1,000: " .. bytes)
    assert.is_true(bytes <= 11500, bytes)
  end)
end)
