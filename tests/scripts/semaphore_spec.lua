-- SPDX-License-Identifier: MIT
-- The semaphore on a real server, in virtual time, beside a model that keeps every lease.
local here = debug.getinfo(1, "S").source:match("^@(.*/)") or "./"
package.path = here .. "support/?.lua;" .. package.path
local scripts = require "scripts"
local server = require "server"
local steps_of = require "steps"

local OK, BUSY, GONE, NEVER = 1, 0, -1, -1
local SECOND = 1000000
local START = 1760000000 * SECOND
local KEY, FENCE, REQUEST = "redmoon:{s}:semaphore", "redmoon:{s}:semaphore.fence", "redmoon:{s}:semaphore+req."
local WAITS = "redmoon:{s}:semaphore.waits"

-- The model: what is in the set, by token: how many places, until when; they are live while that is after now.
local Model = {}
Model.__index = Model

local function new_model() return setmetatable({held = {}, requests = {}, fence = 0}, Model) end

function Model:live(now)
  local ends, size = {}, 0
  for _, lease in pairs(self.held) do
    for _ = 1, lease.count do
      if lease.ends > now then ends[#ends + 1] = lease.ends end
      size = size + 1
    end
  end
  table.sort(ends)
  return ends, size
end

function Model:left(token, now)
  local lease = self.held[token]
  return lease and lease.ends > now and lease.ends - now or nil
end

function Model:acquire(now, token, permits, count, lease_ms, request)
  local ends = self:live(now)
  local given = request and self.requests[request]
  if given then
    local left = self:left(given.token, now)
    return left and {OK, #ends, permits, left, given.fence, given.count, given.token} or {GONE}
  end
  local left = self:left(token, now)
  if not left and #ends + count > permits then
    return {BUSY, #ends, permits, count > permits and NEVER or ends[#ends + count - permits] - now}
  end
  self.fence = math.max(self.fence + 1, now)
  if not left then
    for other, lease in pairs(self.held) do
      if lease.ends <= now then self.held[other] = nil end
    end
    left = lease_ms * 1000
    self.held[token] = {count = count, ends = now + left}
  end
  if request then self.requests[request] = {token = token, count = count, fence = self.fence} end
  return {OK, #self:live(now), permits, left, self.fence, count, token}
end

function Model:extend(now, token, lease_ms)
  local lease = self.held[token]
  if not self:left(token, now) then return {GONE} end
  lease.ends = math.max(lease.ends, now + lease_ms * 1000)
  return {OK, lease.ends - now}
end

function Model:release(now, token)
  if not self:left(token, now) then return {GONE} end
  self.held[token] = nil
  return {OK}
end

function Model:peek(now, permits)
  local ends = self:live(now)
  if #ends < permits then return {OK, #ends, permits, 0} end
  return {BUSY, #ends, permits, ends[#ends - permits + 1] - now}
end

describe("semaphore", function()
  local redis, stop, sha
  setup(function()
    redis, stop = server.start()
    sha = {}
    for _, name in ipairs {"semaphore_acquire", "semaphore_peek", "permit_extend", "permit_release"} do
      sha[name] = redis:call("SCRIPT", "LOAD", scripts.expand_timed(name))
    end
  end)
  teardown(function() stop() end)
  before_each(function() redis:call("FLUSHALL") end)

  local function acquire(now, token, permits, count, lease, request)
    if request then
      return redis:call("EVALSHA", sha.semaphore_acquire, 4, KEY, FENCE, WAITS, REQUEST .. request, token, permits,
        count or 1, lease or 100000, now)
    end
    return redis:call("EVALSHA", sha.semaphore_acquire, 3, KEY, FENCE, WAITS, token, permits, count or 1,
      lease or 100000, now)
  end
  local function extend(now, token, count, lease)
    return redis:call("EVALSHA", sha.permit_extend, 1, KEY, token, count or 1, lease or 100000, now)
  end
  local function release(now, token, count)
    return redis:call("EVALSHA", sha.permit_release, 2, KEY, WAITS, token, count or 1, now)
  end

  local seed = math.tointeger(os.getenv("SEED") or 20261125)
  local steps = steps_of(60000)
  print("SEED=" .. seed .. " STEPS=" .. steps)

  -- One random step: what is sent, and what the model answers. `changes`: the zset may be another afterwards.
  local function random_step(model, round, tokens, now, permits)
    local key = KEY .. round
    local how = math.random(10)
    local count = math.random(3) == 1 and math.random(1, math.min(permits + 1, 5)) or 1
    local lease = math.random(4) == 1 and 100000 or math.random(50000, 400000) -- some leases end together
    local old = tokens[math.random(#tokens)]
    local held = model.held[old.token] and model.held[old.token].count or old.count
    if how <= 5 then
      local token, request = old.token, nil
      if how > 1 then -- else the same request once more: its count is the same
        token = ("%d.%d"):format(round, #tokens + 1)
        tokens[#tokens + 1] = {token = token, count = count}
        if math.random(4) == 1 then request = "r" .. math.random(#tokens) end
      else
        count = old.count
      end
      local answer = model:acquire(now, token, permits, count, lease, request)
      local command = {"EVALSHA", sha.semaphore_acquire, 3, key, FENCE .. round, WAITS .. round}
      if request then
        command[3] = 4
        command[7] = REQUEST .. round .. request
      end
      for _, arg in ipairs {token, permits, count, lease, now} do command[#command + 1] = arg end
      return command, answer, answer[1] == OK, answer[1] == OK and answer[5]
    elseif how <= 7 then
      local answer = model:extend(now, old.token, lease)
      return {"EVALSHA", sha.permit_extend, 1, key, old.token, held, lease, now}, answer, answer[1] == OK
    elseif how <= 9 then
      local answer = model:release(now, old.token)
      return {"EVALSHA", sha.permit_release, 2, key, WAITS .. round, old.token, held, now}, answer, answer[1] == OK
    end
    return {"EVALSHA", sha.semaphore_peek, 1, key, permits, now}, model:peek(now, permits), false
  end

  it("answers as the model over random steps; a refusal changes nothing; never are more held than there are", function()
    math.randomseed(seed)
    local done, round, full, revived = 0, 0, 0, 0
    while done < steps do
      round = round + 1
      local permits, resizes, now, ready = math.random(1, 8), round % 3 == 0, START, nil
      local model, tokens = new_model(), {{token = "nobody", count = 1}}
      local commands, expected, most = {}, {}, permits
      for _ = 1, 500 do
        local step = math.random(12)
        if step == 1 then now = now - math.random(0, 500 * SECOND) -- the clock is set back
        elseif step == 2 and ready then now = ready
        elseif step == 3 and ready then now = ready - 1
        elseif step <= 8 then now = now + math.random(0, 60 * SECOND)
        elseif step == 9 then now = now + 1 end
        if resizes and math.random(20) == 1 then permits = math.random(1, 8) end
        most = math.max(most, permits)
        local before = #model:live(now)
        local command, answer, changes = random_step(model, round, tokens, now, permits)
        ready = answer[1] == BUSY and answer[4] > 0 and now + answer[4] or nil
        if answer[1] == BUSY then full = full + 1 end
        if step == 1 and before > 0 then revived = revived + 1 end
        local live, size = model:live(now)
        assert(#live <= most, "more are held than there are")
        if answer[1] == OK and changes and answer[3] then assert(resizes or size <= permits, "more could live again") end
        commands[#commands + 1] = command
        commands[#commands + 1] = {"DUMP", KEY .. round}
        commands[#commands + 1] = {"PTTL", KEY .. round}
        expected[#expected + 1] = {answer = answer, changes = changes, now = now}
      end
      local replies, dump, fence = redis:batch(commands), false, 0
      for i, want in ipairs(expected) do
        local got, after, ttl = replies[3 * i - 2], replies[3 * i - 1], replies[3 * i]
        for place = 1, 7 do
          if got[place] ~= want.answer[place] then
            error(("round %d, step %d (%s) at %d: place %d is %s, the model says %s"):format(round, i,
              commands[3 * i - 2][2], want.now, place, tostring(got[place] or got.err), tostring(want.answer[place])))
          end
        end
        if not want.changes then assert(after == dump, "a refusal or a look changed the key") end
        assert(ttl > 0 or not after, "a key without a TTL")
        if want.answer[5] and want.changes and want.answer[5] > fence then fence = want.answer[5] end
        dump = after
      end
      assert.are.equal(tostring(model.fence), redis:call("GET", FENCE .. round) or "0")
      done = done + #expected
    end
    assert.is_true(full > steps // 20 and revived > 0)
  end)

  it("retry_after is exact: it succeeds then, and fails one microsecond before", function()
    for i = 1, 5 do acquire(START + i, "t" .. i, 5, 1, 100000 + i) end
    for count = 1, 5 do
      local answer = acquire(START + 1000, "new", 5, count)
      assert.are.equal(BUSY, answer[1])
      assert.are.equal(count + 100 * SECOND + count * 1000 - 1000, answer[4])
      assert.are.equal(BUSY, acquire(START + 1000 + answer[4] - 1, "new", 5, count)[1])
      local copy = redis:call("DUMP", KEY)
      assert.are.equal(OK, acquire(START + 1000 + answer[4], "new", 5, count)[1])
      redis:call("RESTORE", KEY, 0, copy, "REPLACE")
    end
    assert.are.same({BUSY, 5, 5, NEVER}, acquire(START + 1000, "new", 5, 6))
  end)

  it("the fence rises over every acquisition, after FLUSHALL and a clock set back too", function()
    local last = 0
    for i, at in ipairs {START, START, START - 3600 * SECOND, START + 1} do
      local fence = acquire(at, "t" .. i, 100)[5]
      assert.is_true(fence > last)
      last = fence
    end
    redis:call("FLUSHALL")
    assert.is_true(acquire(START + 10, "later", 100)[5] > last)
    redis:call("SET", FENCE, "no fence")
    local dump = redis:call("DUMP", KEY)
    assert.is_truthy(acquire(START + 10, "another", 100).err:find("holds no fence", 1, true))
    assert.are.equal(dump, redis:call("DUMP", KEY))
  end)

  it("a request is given the same permit again, and none once that is over or was given back", function()
    local first = acquire(START, "a", 2, 2, 100000, "r")
    local again = acquire(START + 5 * SECOND, "b", 2, 1, 100000, "r")
    assert.are.same({OK, 2, 2, 95 * SECOND, first[5], 2, "a"}, again)
    assert.are.equal(2, redis:call("ZCARD", KEY))
    assert.are.same({GONE}, acquire(START + 100 * SECOND, "b", 2, 1, 100000, "r"))
    acquire(START + 100 * SECOND, "c", 2, 1, 100000, "s")
    release(START + 101 * SECOND, "c")
    local dump = redis:call("DUMP", KEY)
    assert.are.same({GONE}, acquire(START + 102 * SECOND, "d", 2, 1, 100000, "s"))
    assert.are.equal(dump, redis:call("DUMP", KEY))
    local ttl = redis:call("PTTL", REQUEST .. "s")
    assert.is_true(ttl > 500000 and ttl <= 600000)
    -- A refused request is not remembered: it may be granted later.
    acquire(START + 200 * SECOND, "e", 1)
    assert.are.equal(BUSY, acquire(START + 201 * SECOND, "f", 1, 1, 100000, "u")[1])
    assert.are.equal(0, redis:call("EXISTS", REQUEST .. "u"))
  end)

  it("what is over cannot live again beside those who came after it, however much it was", function()
    for i = 1, 5 do acquire(START, "old" .. i, 2500, 500) end
    for i = 1, 3 do
      assert.are.equal(OK, acquire(START + 100 * SECOND, "new" .. i, 2500, 500)[1])
      assert.is_true(redis:call("ZCARD", KEY) <= 2500)
    end
    -- Now 10 permits are left of 2,500: all that is over must go at once.
    redis:call("DEL", KEY)
    for i = 1, 5 do acquire(START, "old" .. i, 2500, 500) end
    assert.are.equal(OK, acquire(START + 100 * SECOND, "new", 10, 1)[1])
    assert.is_true(redis:call("ZCARD", KEY) <= 10)
    local alive = 0
    for i = 1, 5 do alive = alive + (extend(START + 1, "old" .. i, 500)[1] == OK and 1 or 0) end
    assert.are.equal(0, alive)
  end)

  it("the key lives as long as the longest lease", function()
    acquire(START, "long", 5, 1, 3000000)
    acquire(START, "short", 5, 1, 100000)
    local left = redis:call("PTTL", KEY)
    assert.is_true(left > 2990000 and left <= 3000001)
    extend(START, "short", 1, 5000000)
    assert.is_true(redis:call("PTTL", KEY) > 4990000)
    assert.are.same({OK, 5000 * SECOND}, extend(START, "short", 1, 1000))
  end)

  it("bad input is refused before anything is written", function()
    for _, bad in ipairs {{0, 1, 1000}, {100001, 1, 1000}, {1.5, 1, 1000}, {"x", 1, 1000}, {5, 0, 1000}, {5, 1001, 1000},
      {5, 1, 0}, {5, 1, 86400001}, {5, 1, "nan"}, {"inf", 1, 1000}, {5, -1, 1000}} do
      assert.is_truthy(acquire(START, "t", bad[1], bad[2], bad[3]).err:find("integers", 1, true))
    end
    for _, bad in ipairs {{0, 1000}, {1.5, 1000}, {1001, 1000}, {1, 0}, {1, 86400001}, {"x", 1000}, {1, "x"}} do
      assert.is_truthy(extend(START, "t", bad[1], bad[2]).err:find("integers", 1, true))
    end
    for _, bad in ipairs {0, 1001, 0.5, "x"} do
      assert.is_truthy(release(START, "t", bad).err:find("integer", 1, true))
    end
    for _, bad in ipairs {0, 100001, 1.5, "x"} do
      local answer = redis:call("EVALSHA", sha.semaphore_peek, 1, KEY, bad, START)
      assert.is_truthy(answer.err:find("integer", 1, true))
    end
    assert.are.equal(0, redis:call("DBSIZE"))
    redis:call("SET", KEY, "x")
    assert.is_truthy(acquire(START, "t", 5).err:find("WRONGTYPE", 1, true))
    assert.are.equal("x", redis:call("GET", KEY))
    assert.are.equal(0, redis:call("EXISTS", FENCE))
  end)

  it("100 permits in use take 5.2 KB, and one with its fence and request 360 bytes", function()
    local function bytes(key) return redis:call("MEMORY", "USAGE", key, "SAMPLES", 0) end
    for i = 1, 100 do acquire(START + i, ("%032x"):format(i), 100) end
    print("bytes of 100 permits: " .. bytes(KEY))
    assert.is_true(bytes(KEY) <= 6500)
    for i = 101, 1000 do acquire(START + i, ("%032x"):format(i), 1000) end
    print("bytes of 1,000 permits: " .. bytes(KEY))
    assert.is_true(bytes(KEY) <= 160000)
    redis:call("FLUSHALL")
    acquire(START, ("%032x"):format(1), 1, 1, 100000, "r")
    print(("bytes of one permit: %d, fence %d, request %d"):format(bytes(KEY), bytes(FENCE), bytes(REQUEST .. "r")))
    assert.is_true(bytes(KEY) + bytes(FENCE) + bytes(REQUEST .. "r") <= 450)
  end)
end)
