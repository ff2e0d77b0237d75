-- SPDX-License-Identifier: MIT
-- Counters on a real server beside a model: random steps with the clock given to the script, windows ended by hand.
local here = debug.getinfo(1, "S").source:match("^@(.*/)") or "./"
package.path = here .. "support/?.lua;" .. package.path
local scripts = require "scripts"
local server = require "server"
local steps_of = require "steps"

local OK, CLAMPED, REFUSED = 1, 2, 0
local SECOND = 1000000
local MIN, MAX = math.mininteger, math.maxinteger
local LATE = 60000 -- ms that a TTL may have run by the time it is asked for: far below what tells one from another
local GRACE, LONG_GRACE = 1000, 1000000000 -- periods of virtual time must not end by the real one

-- The model.  A sum beyond 64 bits is "above" or "below".
local function add(a, b)
  local sum = a + b
  if a > 0 and b > 0 and sum <= 0 then return "above" end
  if a < 0 and b < 0 and sum >= 0 then return "below" end
  return sum
end

local MONTHS = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31}

-- The second at which the period ends that holds `second`: by the C library's calendar.
local function period_end(unit, second)
  local t = os.date("!*t", second)
  local leap = t.year % 4 == 0 and (t.year % 100 ~= 0 or t.year % 400 == 0)
  local days = t.month == 2 and leap and 29 or MONTHS[t.month]
  local left = {minute = 60 - t.sec}
  left.hour = left.minute + (59 - t.min) * 60
  left.day = left.hour + (23 - t.hour) * 3600
  left.month = left.day + (days - t.day) * 86400
  return second + left[unit]
end

local CALENDAR = {minute = true, hour = true, day = true, month = true}

local Model = {}
Model.__index = Model

local function new_model(mode, life, min, max, clamp)
  return setmetatable({mode = mode, life = life, min = min, max = max, clamp = clamp, answers = {}}, Model)
end

-- What is there at `now`; the end of its period, in a calendar.
function Model:look(now)
  if not CALENDAR[self.mode] then return self.value, nil end
  local ends = period_end(self.mode, now // SECOND)
  if self.value and self.ends < ends then return nil, ends end
  return self.value, self.value and self.ends or ends
end

local function left(ends, now) return -((now - ends * SECOND) // 1000) end -- rounded up

function Model:ttl_at(now)
  local value, ends = self:look(now)
  if not value then return -2 end
  return ends and left(ends, now) or self.ttl
end

function Model:get(now) return {OK, self:look(now) or 0, 0, self:ttl_at(now)} end

function Model:increment(now, by, id)
  if id and self.answers[id] then return self.answers[id] end
  local value, ends = self:look(now)
  local old = value or 0
  if by == 0 then return {OK, old, 0, self:ttl_at(now)} end
  local sum = add(old, by)
  local above = sum == "above" or sum ~= "below" and sum > self.max
  local below = sum == "below" or sum ~= "above" and sum < self.min
  if (above or below) and not self.clamp then
    if above and self.max == MAX or below and self.min == MIN then return "OVERFLOW" end
    return {REFUSED, old, 0, self:ttl_at(now)}
  end
  local target = above and self.max or below and self.min or sum
  local applied = add(target, -old)
  if old == MIN then applied = target < 0 and target - old or "above" end
  if math.type(applied) ~= "integer" then return "OVERFLOW" end
  if applied == 0 then return {REFUSED, old, 0, self:ttl_at(now)} end
  self.value, self.ends = target, ends
  if self.mode == "sliding" or self.mode == "window" and (not value or self.ttl < 0) then self.ttl = self.life
  elseif not value then self.ttl = -1 end
  local answer = {target == sum and OK or CLAMPED, target, applied, self:ttl_at(now)}
  if id then self.answers[id] = answer end
  return answer
end

describe("counter", function()
  local redis, stop, increment_sha, get_sha, real_sha
  setup(function()
    redis, stop = server.start()
    real_sha = redis:call("SCRIPT", "LOAD", scripts.expand_timed("counter_increment"))
    local text, seams = scripts.expand_timed("counter_increment"):gsub("local GRACE = " .. GRACE .. " ",
      "local GRACE = " .. LONG_GRACE .. " ")
    assert(seams == 1)
    increment_sha = redis:call("SCRIPT", "LOAD", text)
    get_sha = redis:call("SCRIPT", "LOAD", scripts.expand_timed("counter_get"))
  end)
  teardown(function() stop() end)
  before_each(function() redis:call("FLUSHALL") end)

  local seed = math.tointeger(os.getenv("SEED") or 20261125)
  print("SEED=" .. seed)

  local function key_of(name, mode) return ("redmoon:{%s}:c.%s"):format(name, CALENDAR[mode] and mode or "count") end

  local function command(c, now, by, id, sha)
    local key = key_of(c.name, c.mode)
    local args = {"EVALSHA", sha or increment_sha, id and 2 or 1, key}
    if id then args[5] = key .. "+req." .. id end
    for _, arg in ipairs {("%d"):format(by), ("%d"):format(c.min or MIN), ("%d"):format(c.max or MAX),
      c.clamp and "clamp" or "refuse", c.mode, c.life or 0, now} do args[#args + 1] = arg end
    return args
  end
  local function reading(c, now) return {"EVALSHA", get_sha, 1, key_of(c.name, c.mode), c.mode, now} end
  local function increment(c, now, by, id) return redis:call(table.unpack(command(c, now, by, id))) end
  local function get(c, now) return redis:call(table.unpack(reading(c, now))) end
  local START = 1764115200 * SECOND -- 2025-11-26T00:00:00Z

  -- A TTL that was `want` a moment ago.
  local function near(got, want)
    if want < 0 then return got == want end
    return got <= want and got > want - LATE
  end

  local function check(got, want, exact, where)
    if want == "OVERFLOW" then
      assert(got.err and got.err:find("^OVERFLOW "), where .. ": OVERFLOW expected")
      return
    end
    if got.err then error(where .. ": " .. got.err) end
    local same = got[1] == want[1] and got[2] == ("%d"):format(want[2]) and got[3] == ("%d"):format(want[3])
      and (exact and got[4] == want[4] or not exact and near(got[4], want[4]))
    if not same then
      error(("%s: {%s}, the model says {%s}"):format(where, table.concat(got, ", "), table.concat(want, ", ")))
    end
  end

  -- Numbers that lie where arithmetic goes wrong.
  local CORNERS = {0, 1, -1, 9, 10, 1 << 31, 1 << 53, (1 << 53) + 1, 9999999999, 10000000000, 10000000001, -9999999999,
    -10000000000, -10000000001, MAX, MAX - 1, MIN, MIN + 1, 922337203 * 10000000000, -922337204 * 10000000000}
  local function number()
    local how = math.random(6)
    if how <= 2 then return math.random(-5, 5) end
    if how == 3 then return CORNERS[math.random(#CORNERS)] + math.random(-1, 1) end
    if how == 4 then return CORNERS[math.random(#CORNERS)] end
    if how == 5 then return math.random(0) end
    return math.random(0) >> math.random(1, 62)
  end

  local MODES = {"keep", "window", "sliding", "minute", "hour", "day", "month"}

  local function random_counter(round)
    local c = {name = tostring(round), mode = MODES[round % #MODES + 1], life = 0, min = MIN, max = MAX}
    if c.mode == "window" or c.mode == "sliding" then c.life = math.random(200, 300) * 100000 end
    local bounds = math.random(4)
    if bounds == 2 then c.min, c.max = -math.random(0, 20), math.random(0, 20)
    elseif bounds == 3 then c.min, c.max = number(), number() end
    if c.min > c.max then c.min, c.max = c.max, c.min end
    c.clamp = math.random(2) == 1
    return c, new_model(c.mode, c.life, c.min, c.max, c.clamp)
  end

  -- Times that lie around the ends of periods.
  local function next_time(c, now)
    local how = math.random(8)
    local unit = CALENDAR[c.mode] and c.mode or "day"
    local ends = period_end(unit, now // SECOND) * SECOND
    if how == 1 then return ends - 1 end
    if how == 2 then return ends end
    if how == 3 then return ends + math.random(0, 40 * 86400) * SECOND + math.random(0, 999999) end
    if how == 4 then return math.max(now - math.random(0, 3 * 86400) * SECOND, 0) end -- the clock is set back
    return now + math.random(0, 2000000)
  end

  -- One step of the model: the commands that do the same, and what they must answer.
  local function step(c, model, now, commands, expected)
    local how, ends = math.random(20), CALENDAR[c.mode]
    local key = key_of(c.name, c.mode)
    if how == 1 then
      model.value = nil
      commands[#commands + 1] = {"DEL", key} -- what the end of a window does
      expected[#expected + 1] = false
    elseif how == 2 and not ends and model.value then -- some time later, or a leftover without a TTL
      model.ttl = math.random(3) == 1 and -1 or math.random(1, 150) * 100000
      commands[#commands + 1] = model.ttl < 0 and {"PERSIST", key} or {"PEXPIRE", key, model.ttl}
      expected[#expected + 1] = false
    elseif how <= 5 then
      commands[#commands + 1] = reading(c, now)
      expected[#expected + 1] = {answer = model:get(now), exact = ends, same = true}
    else
      local by = number()
      local id = math.random(4) == 1 and tostring(math.random(30)) or nil
      local known = id and model.answers[id]
      local answer = model:increment(now, by, id)
      commands[#commands + 1] = command(c, now, by, id)
      local same = known or answer == "OVERFLOW" or answer[3] == 0
      expected[#expected + 1] = {answer = answer, exact = ends, same = same}
    end
    local want = expected[#expected] or {}
    want.ttl = not model.value and -2 or ends and left(model.ends, want.at or now) or model.ttl
    expected[#expected] = want
    commands[#commands + 1] = {"PTTL", key}
    commands[#commands + 1] = {"DUMP", key}
  end

  local steps = steps_of(60000)
  it("answers as the model over " .. steps .. " random steps; what counts nothing leaves DUMP and TTL", function()
    math.randomseed(seed)
    local done, round, refused, answered_again = 0, 0, 0, 0
    while done < steps do
      round = round + 1
      local c, model = random_counter(round)
      local now = math.random(0, 7200000000) * SECOND + math.random(0, 999999) -- from 1970 to 2198
      local commands, expected = {}, {}
      for _ = 1, 500 do
        now = next_time(c, now)
        step(c, model, now, commands, expected)
      end
      local dump, ttl = false, -2
      for from = 1, #commands, 300 do
        local replies = redis:batch({table.unpack(commands, from, from + 299)})
        for i = 1, #replies, 3 do
          local want, at = expected[(from + i + 1) // 3], table.concat(commands[from + i - 1], " ")
          local where = ("round %d, step %d (%s)"):format(round, (from + i + 1) // 3, at)
          if want.answer then check(replies[i], want.answer, want.exact, where) end
          if want.same then
            assert(replies[i + 2] == dump, where .. ": changed the value")
            assert(replies[i + 1] <= ttl and near(replies[i + 1], ttl), where .. ": changed the TTL")
            refused = refused + 1
            if want.answer[3] ~= 0 and want.answer ~= "OVERFLOW" then answered_again = answered_again + 1 end
          elseif not CALENDAR[c.mode] then
            assert(near(replies[i + 1], want.ttl), where .. ": the TTL is " .. replies[i + 1])
          elseif replies[i + 2] then
            assert(near(replies[i + 1], want.ttl + LONG_GRACE), where .. ": the TTL is " .. replies[i + 1])
          end
          dump, ttl = replies[i + 2], replies[i + 1]
        end
      end
      done = done + 500
    end
    assert.is_true(refused > done // 10 and answered_again > done // 200, refused .. ", " .. answered_again)
  end)

  it("counts a window from its first count; later ones do not move its end", function()
    local c = {name = "k", mode = "window", life = 100000000}
    assert.are.same({OK, "1", "1", 100000000}, increment(c, START, 1))
    redis:call("PEXPIRE", key_of("k"), 50000000)
    local last = 50000000
    for i = 2, 50 do
      local answer = increment(c, START, 1)
      assert.are.equal(("%d"):format(i), answer[2])
      local ttl = redis:call("PTTL", key_of("k"))
      assert.is_true(answer[4] <= last and ttl <= answer[4])
      last = ttl
    end
    -- Once longer than the window, as after a change of it.
    redis:call("PEXPIRE", key_of("k"), 900000000)
    assert.is_true(near(increment(c, START, 1)[4], 900000000))
  end)

  it("sets a TTL where a window's is missing, with the next count, not by a look or a refusal", function()
    local c = {name = "k", mode = "window", life = 100000000, max = 10}
    redis:call("SET", key_of("k"), "7")
    assert.are.same({OK, "7", "0", -1}, get(c, START))
    assert.are.same({OK, "7", "0", -1}, increment(c, START, 0))
    assert.are.same({REFUSED, "7", "0", -1}, increment(c, START, 4))
    assert.are.equal(-1, redis:call("PTTL", key_of("k")))
    assert.are.same({OK, "8", "1", 100000000}, increment(c, START, 1))
    assert.is_true(near(redis:call("PTTL", key_of("k")), 100000000))
  end)

  it("renews the TTL of a sliding counter with each count, not with a refusal", function()
    local c = {name = "k", mode = "sliding", life = 100000000, min = 0}
    increment(c, START, 1)
    redis:call("PEXPIRE", key_of("k"), 5000000)
    assert.are.equal(REFUSED, increment(c, START, -2)[1])
    assert.is_true(near(redis:call("PTTL", key_of("k")), 5000000))
    assert.are.same({OK, "0", "-1", 100000000}, increment(c, START, -1))
    assert.is_true(near(redis:call("PTTL", key_of("k")), 100000000))
  end)

  it("gives no TTL to what is counted for ever, and leaves one that is there", function()
    local c = {name = "k", mode = "keep"}
    assert.are.same({OK, "5", "5", -1}, increment(c, START, 5))
    assert.are.equal(-1, redis:call("PTTL", key_of("k")))
    redis:call("PEXPIRE", key_of("k"), 5000000)
    increment(c, START, 1)
    assert.is_true(near(redis:call("PTTL", key_of("k")), 5000000))
  end)

  -- The last microsecond of a period and the first of the next one.
  local function ends_at(mode, second)
    local c = {name = mode .. second, mode = mode}
    local at = second * SECOND
    assert.are.same({OK, "1", "1", 1}, increment(c, at - 1, 1))
    assert.are.same({OK, "2", "1", 1}, increment(c, at - 1000, 1))
    assert.are.same({OK, "3", "1", 2}, increment(c, at - 1001, 1))
    assert.are.same({OK, "3", "0", 1}, get(c, at - 1))
    assert.are.same({OK, "0", "0", -2}, get(c, at))
    local answer = increment(c, at, 1)
    assert.are.same({OK, "1", "1"}, {answer[1], answer[2], answer[3]})
    assert.are.equal((period_end(mode, second) - second) * 1000, answer[4])
    assert.are.equal("1", get(c, at)[2])
  end

  it("begins anew at each end of a period, to the microsecond", function()
    for _, mode in ipairs {"minute", "hour", "day", "month"} do
      for _, second in ipairs {0, START // SECOND, START // SECOND + 40000003} do
        ends_at(mode, period_end(mode, second))
      end
    end
  end)

  it("knows the length of every month, and leap years", function()
    local second, months = 0, 0
    while second < 8993376000 do -- 1970 to 2254: until then a time in microseconds is below 2^53
      second = period_end("month", second)
      local c = {name = "m", mode = "month"}
      if months % 12 == 1 or months % 97 == 0 then ends_at("month", second) end
      local replies = redis:batch {command(c, second * SECOND - 1, 1), command(c, second * SECOND, 1),
        {"DEL", key_of("m", "month")}}
      assert.are.equal(1, replies[1][4], "the end of a month before " .. second)
      assert.are.equal((period_end("month", second) - second) * 1000, replies[2][4])
      months = months + 1
    end
    assert.are.equal(285 * 12, months)
    -- Of what everybody knows: February had 29 days in 2000 and 2024, 28 in 2100 and 2025.
    for first, days in pairs {[949363200] = 29, [1706745600] = 29, [4105123200] = 28, [1738368000] = 28} do
      local c = {name = "f" .. first, mode = "month"}
      assert.are.equal(days * 86400000, increment(c, first * SECOND, 1)[4])
    end
  end)

  it("does not reopen a period when the clock is set back", function()
    local c = {name = "k", mode = "minute"}
    increment(c, START, 5)
    assert.are.same({OK, "6", "1", 60001}, increment(c, START - 1000, 1))
    assert.are.same({OK, "6", "0", 3660000}, get(c, START - 3600 * SECOND))
    assert.are.same({OK, "0", "0", -2}, get(c, START + 60 * SECOND))
  end)

  it("a key outlives its period by a second, so that nothing is forgotten before the end", function()
    local now = tonumber(redis:call("TIME")[1]) * SECOND
    local c = {name = "k", mode = "month"}
    local answer = redis:call(table.unpack(command(c, now, 1, nil, real_sha)))
    local ttl = redis:call("PTTL", key_of("k", "month"))
    assert.is_true(near(ttl, answer[4] + GRACE))
    -- With the server's own clock.
    redis:call("FLUSHALL")
    answer = redis:call("EVAL", scripts.expand("counter_increment"), 1, key_of("k", "hour"), 1, MIN, MAX, "refuse",
      "hour", 0)
    local expire = redis:call("PEXPIRETIME", key_of("k", "hour"))
    local ends = math.tointeger(redis:call("GET", key_of("k", "hour")):match("^1 (%d+)$"))
    assert.are.equal(0, ends % 3600)
    assert.is_true(expire > ends * 1000 and expire <= ends * 1000 + GRACE + 60000)
    assert.is_true(answer[4] <= 3600000)
  end)

  it("is exact to the edges of 64 bits", function()
    local c = {name = "k", mode = "keep"}
    assert.are.same({OK, "9223372036854775807", "9223372036854775807", -1}, increment(c, START, MAX))
    local dump = redis:call("DUMP", key_of("k"))
    assert.is_truthy(increment(c, START, 1).err:find("^OVERFLOW "))
    assert.is_truthy(increment(c, START, MAX).err:find("^OVERFLOW "))
    assert.are.equal(dump, redis:call("DUMP", key_of("k")))
    assert.are.same({OK, "-1", "-9223372036854775808", -1}, increment(c, START, MIN))
    assert.are.same({OK, "-9223372036854775808", "-9223372036854775807", -1}, increment(c, START, MIN + 1))
    assert.is_truthy(increment(c, START, -1).err:find("^OVERFLOW "))
    assert.are.equal("-9223372036854775808", redis:call("GET", key_of("k")))
    c.clamp = true
    assert.are.same({REFUSED, "-9223372036854775808", "0", -1}, increment(c, START, -1))
    redis:call("SET", key_of("k"), "5")
    assert.are.same({CLAMPED, "9223372036854775807", "9223372036854775802", -1}, increment(c, START, MAX))
    redis:call("SET", key_of("k"), "9007199254740993") -- no double
    assert.are.equal("9007199254740994", increment(c, START, 1)[2])
    c.min = MAX -- so far that what was applied would be no 64-bit integer
    redis:call("SET", key_of("k"), "-9223372036854775808")
    assert.is_truthy(increment(c, START, 1).err:find("^OVERFLOW "))
    assert.are.equal("-9223372036854775808", redis:call("GET", key_of("k")))
  end)

  it("a request that was answered is answered the same again, and counted once", function()
    local c = {name = "k", mode = "window", life = 100000000, max = 10}
    local first = increment(c, START, 6, "a")
    assert.are.same({OK, "6", "6", 100000000}, first)
    redis:call("PEXPIRE", key_of("k"), 5000)
    for _ = 1, 3 do assert.are.same(first, increment(c, START, 6, "a")) end
    assert.are.equal("6", redis:call("GET", key_of("k")))
    assert.are.same({REFUSED, "6", "0"}, {table.unpack(increment(c, START, 6, "b"), 1, 3)})
    assert.are.equal(0, redis:call("EXISTS", key_of("k") .. "+req.b"))
    local ttl = redis:call("PTTL", key_of("k") .. "+req.a")
    assert.is_true(near(ttl, 600000))
    c.clamp = true
    assert.are.same({CLAMPED, "10", "4"}, {table.unpack(increment(c, START, 6, "b"), 1, 3)})
    redis:call("DEL", key_of("k"))
    assert.are.same({CLAMPED, "10", "4"}, {table.unpack(increment(c, START, 6, "b"), 1, 3)})
    assert.are.equal(0, redis:call("EXISTS", key_of("k")))
  end)

  it("bad input is refused before anything is written", function()
    local good = {"1", "-5", "5", "refuse", "window", "1000", START}
    for place, bad in pairs {{"", "x", "1.5", "1e3", "+1", "01", "-0", " 1", "9223372036854775808",
      "-9223372036854775809", "99999999999999999999"}, {"6", "x", ""}, {"-6", "inf"}, {},
      {"", "weeks", "keep "}, {"0", "-1", "1.5", "x", "31622400001", "nan", "inf"}} do
      for _, value in ipairs(bad) do
        local args = {table.unpack(good)}
        args[place] = value
        local answer = redis:call("EVALSHA", increment_sha, 1, key_of("k"), table.unpack(args))
        assert.is_truthy(answer.err and answer.err:find("ARGV is by", 1, true), place .. ": " .. value)
      end
    end
    assert.is_truthy(get({name = "k", mode = "weeks"}, START).err:find("is a mode", 1, true))
    assert.are.equal(0, redis:call("DBSIZE"))
    for _, mode in ipairs {"window", "minute"} do
      local c = {name = "k", mode = mode, life = 100000}
      local garbage = mode == "window" and {"x", "", "007", "1.5", "1 2", "9223372036854775808"}
        or {"x", "", "1", "1 ", "x 1764115260", "1 x", "1.5 1764115260"}
      for _, text in ipairs(garbage) do
        redis:call("SET", key_of("k", mode), text)
        assert.is_truthy(increment(c, START, 1).err:find("holds no count", 1, true), text)
        assert.is_truthy(get(c, START).err:find("holds no count", 1, true), text)
        assert.are.equal(text, redis:call("GET", key_of("k", mode)))
      end
      redis:call("DEL", key_of("k", mode))
      redis:call("RPUSH", key_of("k", mode), "1")
      assert.is_truthy(increment(c, START, 1).err:find("WRONGTYPE", 1, true))
    end
  end)

  it("counter_reset forgets what was counted", function()
    local reset = scripts.expand("counter_reset")
    assert.are.same({0}, redis:call("EVAL", reset, 1, key_of("k")))
    increment({name = "k", mode = "keep"}, START, 3)
    assert.are.same({1}, redis:call("EVAL", reset, 1, key_of("k")))
    assert.are.equal(0, redis:call("EXISTS", key_of("k")))
  end)

  it("takes little memory", function()
    increment({name = "user:42", mode = "window", life = 100000}, START, 3)
    increment({name = "user:42", mode = "day"}, START, 3)
    increment({name = "user:42", mode = "keep"}, START, 3, "7f3a")
    for _, key in ipairs {key_of("user:42"), key_of("user:42", "day"), key_of("user:42") .. "+req.7f3a"} do
      local bytes = redis:call("MEMORY", "USAGE", key, "SAMPLES", 0)
      print("bytes of " .. key .. ": " .. bytes)
      assert.is_true(bytes <= 160, bytes)
    end
  end)
end)
