-- SPDX-License-Identifier: MIT
-- Every algorithm of the rate limiter on a real server, in virtual time, beside its model (support/rate_models.lua).
-- STEPS: random steps for each algorithm; SEED: of all that is random.
local here = debug.getinfo(1, "S").source:match("^@(.*/)") or "./"
package.path = here .. "support/?.lua;" .. package.path
local models = require "rate_models"
local scripts = require "scripts"
local server = require "server"
local steps_of = require "steps"

local SECOND = 1000000
local START = 1760000000 * SECOND
local ALLOWED, DENIED, NEVER = 1, 0, -1
local seed = math.tointeger(os.getenv("SEED") or 20261122)
local steps = steps_of(8000)

-- As it is sent, but for the clock, and keys that outlive the test: only virtual time may end what they count.  So
-- that a key may be gone once its reset has passed is seen too: the models know of no keys.
local function timeless(name)
  local text = scripts.expand_timed(name)
  local kept, seams = text:gsub("math%.ceil%(reset / 1000%) %+ 1", "3600000")
  assert(seams == (name == "rate_peek" and 0 or 1), name .. " sets another lifetime")
  return kept
end

local function random_window()
  return math.random(10) == 1 and math.random(1, 5000) or math.random(SECOND, 400 * SECOND)
end

local makers = {
  gcra = function(limit, window)
    return models.gcra(limit, window, math.random(2) == 1 and limit or math.random(1, 30))
  end,
  ["fixed_window from the first unit"] = function(limit, window) return models.fixed_window(limit, window, false) end,
  ["fixed_window aligned"] = function(limit, window) return models.fixed_window(limit, window, true) end,
  sliding_window = function(limit, window) return models.sliding_window(limit, window) end,
  buckets = function(limit, window) return models.buckets(limit, window, math.random(1, 12)) end,
  sliding_log = function(limit, window) return models.sliding_log(limit, window) end,
}
local names = {}
for name in pairs(makers) do names[#names + 1] = name end
table.sort(names)

describe("the rate limiter's scripts", function()
  local redis, stop
  local sha = {}
  setup(function()
    print("SEED=" .. seed .. " STEPS=" .. steps)
    redis, stop = server.start()
    for _, name in ipairs {"rate_allow", "rate_peek", "rate_refund"} do
      sha[name] = redis:call("SCRIPT", "LOAD", timeless(name))
    end
  end)
  teardown(function() stop() end)
  before_each(function()
    math.randomseed(seed)
    redis:call("FLUSHALL")
  end)

  local function allow_command(model, key, now, cost, partial)
    return {"EVALSHA", sha.rate_allow, 1, key, cost, partial and 1 or 0, 1, model.algorithm, model.limit, model.window,
      model.extra, now}
  end
  local function peek_command(model, key, now)
    return {"EVALSHA", sha.rate_peek, 1, key, model.algorithm, model.limit, model.window, model.extra, now}
  end
  local function refund_command(model, key, now, units)
    return {"EVALSHA", sha.rate_refund, 1, key, units, model.algorithm, model.limit, model.window, model.extra, now}
  end
  local function allow(model, key, now, cost, partial)
    return redis:call(table.unpack(allow_command(model, key, now, cost or 1, partial)))
  end

  -- One random step of `walk`: a command, what the model answers, and what has to hold besides.
  local function random_step(model, walk, key)
    local forced = table.remove(walk.forced, 1)
    if forced then walk.now = forced.now
    else
      local how = math.random(12)
      if how == 1 then walk.now = walk.now - math.random(0, walk.window) -- the clock is set back
      elseif how == 2 then walk.now = walk.now + walk.window - math.random(0, 2)
      elseif how == 3 then walk.now = (walk.now // walk.window + 1) * walk.window - math.random(0, 1)
      elseif how <= 8 then walk.now = walk.now + math.random(0, 2 * (walk.window // model.capacity) + 1)
      elseif how == 9 then walk.now = walk.now + 1 end
    end
    local kind = forced and 9 or math.random(10)
    local step = {now = walk.now}
    if kind == 1 then
      step.what, step.same = "peek", true
      step.command, step.want = peek_command(model, key, walk.now), models.peek(model, walk.now)
    elseif kind == 2 then
      local units = math.random(1, 3)
      step.what, step.command = "refund " .. units, refund_command(model, key, walk.now, units)
      step.want = models.refund(model, walk.now, units)
      step.same = step.want[2] == 0
    else
      local partial = forced and forced.partial or not forced and math.random(5) == 1
      local cost = forced and forced.cost or math.random(3) > 1 and 1 or math.random(1, model.capacity + 1)
      step.what = ("allow %d%s"):format(cost, partial and " or less" or "")
      step.command = allow_command(model, key, walk.now, cost, partial)
      step.want = models.allow(model, walk.now, cost, partial)
      step.same = step.want[1] == DENIED
      if forced then step.must = forced.must
      elseif step.want[5] > 0 and math.random(2) == 1 then -- retry_after is exact
        walk.forced = {{now = walk.now + step.want[5] - 1, cost = cost, partial = partial, must = DENIED},
          {now = walk.now + step.want[5], cost = cost, partial = partial, must = ALLOWED}}
      end
    end
    return step
  end

  for _, name in ipairs(names) do
    it(name .. ": answers as its model; a refusal or a peek leaves DUMP unchanged; retry_after is exact", function()
      local done, exact, round = 0, 0, 0
      while done < steps do
        round = round + 1
        local key = "redmoon:{" .. round .. "}:rl.x"
        local window = random_window()
        local model = makers[name](math.random(1, round % 5 == 0 and 300 or 12), window)
        local walk, list, commands = {now = START + math.random(window), window = window, forced = {}}, {}, {}
        for i = 1, math.min(500, steps - done) do
          list[i] = random_step(model, walk, key)
          commands[2 * i - 1], commands[2 * i] = list[i].command, {"DUMP", key}
        end
        local replies, dump = redis:batch(commands), false
        for i, step in ipairs(list) do
          local got = replies[2 * i - 1]
          for place = 1, 6 do
            if got[place] ~= step.want[place] then
              error(("round %d, limit %d, window %d, extra %d: at %d, %s: place %d is %s, the model says %s"):format(
                round, model.limit, model.window, model.extra, step.now, step.what, place,
                tostring(got[place] or got.err), step.want[place]))
            end
          end
          if step.must then
            exact = exact + 1
            assert(got[1] == step.must, "retry_after is not exact")
          end
          if step.same then assert(replies[2 * i] == dump, step.what .. " changed the key") end
          dump = replies[2 * i]
        end
        done = done + #list
      end
      assert.is_true(exact > steps // 50, exact .. " times only")
    end)
  end

  -- The most units in any window, of admissions {time, units} in order of time.
  local function worst_of(admitted, window)
    local worst, sum, from = 0, 0, 1
    for _, last in ipairs(admitted) do
      sum = sum + last[2]
      while admitted[from][1] <= last[1] - window do
        sum = sum - admitted[from][2]
        from = from + 1
      end
      worst = math.max(worst, sum)
    end
    return worst
  end

  -- Arrivals that mean harm: return the time and cost of the next request.
  local window = 100 * SECOND
  local edge = (START // window + 1) * window
  local adversaries = {
    -- Everything at the end of a window, then whatever is let through as early as it is.
    at_the_edge = function(i, now, ready)
      if i <= 150 then return edge - 1, 1 end
      return ready or now, 1
    end,
    -- One unit opens a window, the rest comes at its end.
    opener = function(i, now, ready)
      if i == 1 then return edge, 1 end
      if i <= 150 then return edge + window - 1, 1 end
      return ready or now, 1
    end,
    greedy = function(_, now, ready) return ready or now, 1 end,
    early = function(i, now, ready) return ready and ready - i % 2 or now, math.random(3) end,
    bursts = function(_, now) return now + (math.random(60) == 1 and math.random(window) or 0), math.random(5) end,
    steady = function(_, now) return now + window // 110, 1 end,
  }
  for _, case in ipairs {
    {"sliding_log", models.sliding_log(100, window), 100},
    {"buckets", models.buckets(100, window, 10), 100},
    {"gcra with burst = limit", models.gcra(100, window, 100), 199},
    {"gcra with burst = 50 and 50 to a window", models.gcra(50, window, 50), 99},
    {"sliding_window", models.sliding_window(100, window), 199},
    {"fixed_window from the first unit", models.fixed_window(100, window, false), 199},
    {"fixed_window aligned", models.fixed_window(100, window, true), 200},
  } do
    it(case[1] .. ": the worst case in any window is " .. case[3] .. " for a limit of 100", function()
      local model, worst = case[2], 0
      for name, arrive in pairs(adversaries) do
        local key, now, ready, admitted, total = "redmoon:{" .. name .. "}:rl.x", edge - window, nil, {}, 0
        for i = 1, 900 do
          local time, cost = arrive(i, now, ready)
          now = math.max(now, time)
          local answer = allow(model, key, now, cost)
          ready = answer[5] > 0 and now + answer[5] or nil
          if answer[1] == ALLOWED then
            admitted[#admitted + 1] = {now, cost}
            total = total + cost
          end
        end
        assert.is_true(total > model.capacity, name .. " got no further than the first " .. total)
        worst = math.max(worst, worst_of(admitted, window))
      end
      assert.are.equal(case[3], worst)
    end)
  end

  it("what is left after the first request is never off by one, over 20,000 configurations", function()
    local commands, wanted = {}, {}
    for i = 1, 20000 do
      local limit = math.random(2, math.random(2) == 1 and 1000 or 20)
      local model = makers[names[math.random(#names)]](limit, random_window())
      if model.capacity > 1 then
        local key, now = "redmoon:{" .. i .. "}:rl.x", START + math.random(10 ^ 12 // 1)
        local rest = model.capacity - 1
        for _, step in ipairs {{1, ALLOWED, rest}, {rest, ALLOWED, 0}, {1, DENIED, 0}} do
          if step[1] <= 1000 then
            commands[#commands + 1] = allow_command(model, key, now, step[1])
            wanted[#commands] = {step, model}
          end
        end
      end
    end
    for from = 1, #commands, 600 do
      for i, got in ipairs(redis:batch(table.move(commands, from, math.min(from + 599, #commands), 1, {}))) do
        local step, model = table.unpack(wanted[from + i - 1])
        assert(got[1] == step[2] and got[4] == step[3],
          ("%s, limit %d, window %d, extra %d, cost %d: %s, %s left"):format(model.algorithm, model.limit,
            model.window, model.extra, step[1], got[1] or got.err, got[4]))
      end
    end
    assert.is_true(#commands > 55000)
  end)

  it("what can never fit is never allowed, and changes nothing", function()
    for _, name in ipairs(names) do
      local model = makers[name](5, window)
      assert.are.same({DENIED, 0, 1, model.capacity, NEVER, 0},
        allow(model, "redmoon:{k}:rl.x", START, model.capacity + 1))
    end
    assert.are.equal(0, redis:call("DBSIZE"))
  end)

  it("a cost of n is n units at one instant", function()
    for _, name in ipairs(names) do
      local model = makers[name](30, window)
      local n = math.min(7, model.capacity)
      allow(model, "redmoon:{one}:rl.x", START, n)
      for _ = 1, n do allow(model, "redmoon:{many}:rl.x", START) end
      assert.are.equal(redis:call("DUMP", "redmoon:{one}:rl.x"), redis:call("DUMP", "redmoon:{many}:rl.x"))
      redis:call("FLUSHALL")
    end
  end)

  it("units that were given back leave room for as many, and no more in any window", function()
    for _, model in ipairs {models.sliding_log(20, window), models.buckets(20, window, 10)} do
      local now, kept = START, {} -- what was taken and not given back
      for _ = 1, 3000 do
        now = now + math.random(0, window // 10)
        local key = "redmoon:{" .. model.algorithm .. "}:rl.x"
        local recent = {}
        for i, grant in ipairs(kept) do
          if grant[1] > now - window and grant[2] > 0 then recent[#recent + 1] = i end
        end
        if #recent > 0 and math.random(4) == 1 then
          local grant = kept[recent[math.random(#recent)]]
          assert(redis:call(table.unpack(refund_command(model, key, now, grant[2])))[2] == grant[2])
          grant[2] = 0
        else
          local cost = math.random(1, 4)
          if allow(model, key, now, cost)[1] == ALLOWED then kept[#kept + 1] = {now, cost} end
        end
      end
      assert.is_true(worst_of(kept, window) <= 20)
      assert.is_true(#kept > 500)
    end
  end)

  it("a changed period keeps what is used, rounded up by less than a millionth of a unit", function()
    local period = 91 * SECOND + 7
    local old, new = models.gcra(10, window, 10), models.gcra(7, period, 10)
    allow(old, "redmoon:{k}:rl.x", START, 6)
    allow(old, "redmoon:{k}:rl.x", START + 1234567) -- so that a part of a unit is in use
    local later = START + 12345677
    local used = 7 - 1234567 * 10 / window - (12345677 - 1234567) * 7 / period
    local got = redis:call(table.unpack(peek_command(new, "redmoon:{k}:rl.x", later)))
    assert.are.equal(math.floor(10 - used), got[4])
    local exact = used * period / 7 -- us until it has come back
    assert.is_true(got[6] >= exact and got[6] < exact + 5, got[6] .. " against " .. exact)
  end)

  it("a lowered limit counts what was taken under the old one", function()
    for _, name in ipairs {"fixed_window", "sliding_window"} do
      local old, new = models[name](10, window, false), models[name](3, window, false)
      local key = "redmoon:{" .. name .. "}:rl.x"
      allow(old, key, edge, 10)
      local answer = allow(new, key, edge + 5)
      assert.are.equal(DENIED, answer[1])
      assert.are.equal(0, answer[4])
      assert.are.equal(DENIED, allow(new, key, edge + 5 + answer[5] - 1)[1])
      assert.are.equal(ALLOWED, allow(new, key, edge + 5 + answer[5])[1])
    end
  end)

  it("several limits: all or none, and the answer tells which one bound", function()
    local second, hour = models.gcra(5, SECOND, 5), models.sliding_log(8, 3600 * SECOND)
    local function both(now, cost, partial)
      local command = {"EVALSHA", sha.rate_allow, 2, "redmoon:{k}:a.gcra", "redmoon:{k}:b.log", cost,
        partial and 1 or 0, 2}
      for _, model in ipairs {second, hour} do
        for _, field in ipairs {"algorithm", "limit", "window", "extra"} do command[#command + 1] = model[field] end
      end
      command[#command + 1] = now
      return redis:call(table.unpack(command))
    end
    local function dumps()
      return redis:call("DUMP", "redmoon:{k}:a.gcra") .. redis:call("DUMP", "redmoon:{k}:b.log")
    end
    assert.are.same({ALLOWED, 4, 1, 1, 0, 800000}, both(START, 4))
    local before = dumps()
    assert.are.same({DENIED, 0, 1, 1, 200000, 800000}, both(START, 2)) -- the first is full, the second not
    assert.are.equal(before, dumps())
    assert.are.same({ALLOWED, 4, 2, 0, 0, 3600 * SECOND}, both(START + SECOND, 9, true))
    before = dumps()
    assert.are.same({DENIED, 0, 2, 0, 3598 * SECOND, 3599 * SECOND}, both(START + 2 * SECOND, 1)) -- the other way
    assert.are.same({DENIED, 0, 2, 0, 3599 * SECOND, 3599 * SECOND}, both(START + 2 * SECOND, 5))
    assert.are.same({DENIED, 0, 1, 5, NEVER, 0}, both(START + 2 * SECOND, 6))
    assert.are.equal(before, dumps())
    assert.are.equal(DENIED, both(START + 3600 * SECOND - 1, 4)[1])
    assert.are.equal(ALLOWED, both(START + 3600 * SECOND, 4)[1])
    redis:call("SET", "redmoon:{k}:b.log", "x")
    before = redis:call("DUMP", "redmoon:{k}:a.gcra")
    assert.is_truthy(both(START + 9000 * SECOND, 1).err:find("WRONGTYPE", 1, true))
    assert.are.equal(before, redis:call("DUMP", "redmoon:{k}:a.gcra"))
  end)

  it("a repeated request gets the answer of the first, and takes or gives nothing", function()
    local model, key, id = models.gcra(5, window, 5), "redmoon:{k}:rl.gcra", "redmoon:{k}:rl.gcra+req.1"
    local function ask(now)
      return redis:call("EVALSHA", sha.rate_allow, 2, key, id, 3, 0, 1, "gcra", model.limit, model.window, 5, now)
    end
    local first = ask(START)
    assert.are.same(first, ask(START + 5))
    assert.are.equal(2, redis:call(table.unpack(peek_command(model, key, START)))[4])
    assert.is_true(redis:call("PTTL", id) > 0)
    redis:call("DEL", id)
    assert.are.equal(DENIED, ask(START)[1])
    assert.are.equal(0, redis:call("EXISTS", id)) -- a refusal is not kept: it may be asked again
    local function give()
      return redis:call("EVALSHA", sha.rate_refund, 2, key, id, 2, "gcra", model.limit, model.window, 5, START)
    end
    assert.are.same({ALLOWED, 2, 1, 4, 0, 20 * SECOND}, give())
    assert.are.same({ALLOWED, 2, 1, 4, 0, 20 * SECOND}, give())
    assert.are.equal(4, redis:call(table.unpack(peek_command(model, key, START)))[4])
  end)

  it("every key ends by itself, not before its reset, and by the server's own clock", function()
    for _, name in ipairs(names) do
      local model = makers[name](30, window)
      local key = "redmoon:{" .. name:gsub(" ", "") .. "}:rl.x"
      local function clock()
        local time = redis:call("TIME")
        return math.tointeger(time[1]) * SECOND + math.tointeger(time[2])
      end
      local before = clock()
      local answer = redis:call("EVAL", scripts.expand("rate_allow"), 1, key, 3, 1, 1, model.algorithm, model.limit,
        model.window, model.extra)
      assert.are.equal(ALLOWED, answer[1])
      local expire = redis:call("PEXPIRETIME", key) * 1000
      assert.is_true(answer[6] > 0 and expire >= before + answer[6], name)
      assert.is_true(expire <= clock() + answer[6] + 2000, name)
    end
  end)

  it("bad input is refused before anything is written", function()
    local function run(script, keys, ...)
      return redis:call("EVALSHA", sha[script], #keys, table.unpack(table.move({...}, 1, select("#", ...), #keys + 1,
        {table.unpack(keys)})))
    end
    local key = "redmoon:{k}:rl.x"
    for _, bad in ipairs {{"x", 0, 1, "gcra", 1, 1, 1}, {0, 0, 1, "gcra", 1, 1, 1}, {1.5, 0, 1, "gcra", 1, 1, 1},
      {1, 0, 1, "nosuch", 1, 1, 1}, {1, 0, 1, "gcra", 0, 1, 1}, {1, 0, 1, "gcra", 1, 0.5, 1},
      {1, 0, 1, "gcra", 1, 1, -1}, {1, 0, 1, "gcra", 1, 1, "nan"}, {1, 0, 1, "gcra", "inf", 1, 1},
      {1, 0, 2, "gcra", 1, 1, 1}, {1, 0, 1, "gcra", 1, 1},
      {1001, 0, 1, "sliding_log", 5000, 1, 0}, {1, 0, 0}, {1, 0, 1.25, "gcra", 1, 1, 1, "x"}} do
      bad[#bad + 1] = START
      assert.is_truthy(run("rate_allow", {key}, table.unpack(bad)).err:find("integers", 1, true),
        table.concat(bad, " "))
    end
    assert.is_truthy(run("rate_peek", {key}, "gcra", 1, 1, "x", START).err:find("integers", 1, true))
    assert.is_truthy(run("rate_peek", {key}, "nosuch", 1, 1, 0, START).err:find("integers", 1, true))
    assert.is_truthy(run("rate_refund", {key}, 0, "gcra", 1, 1, 1, START).err:find("integer", 1, true))
    assert.is_truthy(run("rate_refund", {key}, 1, "gcra", 0, 1, 1, START).err:find("integers", 1, true))
    assert.are.equal(0, redis:call("DBSIZE"))
    for _, name in ipairs(names) do
      local model = makers[name](5, window)
      for _, other in ipairs {"someone's text", "1:x"} do
        redis:call("SET", key, other)
        assert.is_string(allow(model, key, START).err)
        assert.are.equal(other, redis:call("GET", key))
      end
    end
  end)

  it("shows what a key takes", function()
    local clock = redis:call("TIME")
    local now = math.tointeger(clock[1]) * SECOND
    for _, name in ipairs(names) do
      local model = name == "gcra" and models.gcra(100, window, 100)
        or name == "buckets" and models.buckets(100, window, 10) or makers[name](100, window)
      for i = 1, 200 do allow(model, "redmoon:{user:42}:api.x", now + i * window // 90) end
      local bytes = redis:call("MEMORY", "USAGE", "redmoon:{user:42}:api.x", "SAMPLES", 0)
      print(name .. ": " .. bytes .. " bytes")
      assert.is_true(bytes <= (name == "sliding_log" and 1500 or 200), name)
      redis:call("FLUSHALL")
    end
  end)
end)
