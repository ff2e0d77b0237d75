-- SPDX-License-Identifier: MIT
-- The cache's scripts on a real server, beside a model.  They ask no clock: an entry's age is what has passed of its
-- TTL.  So time is virtual by giving each key the TTL that it would have left then, in steps of 1,000 s, which no run of
-- this test is as long as.
local here = debug.getinfo(1, "S").source:match("^@(.*/)") or "./"
package.path = here .. "support/?.lua;" .. package.path
local scripts = require "scripts"
local server = require "server"
local steps_of = require "steps"

local FRESH, REFRESH, BUSY, LOAD, WAIT, STORED, LOST = 1, 2, 3, 4, 0, 1, -1
local KS = 1000000 -- ms
local ENTRY, LEASE = "redmoon:{k}:c.cache", "redmoon:{k}:c.cache+lease"
local WAITS = "redmoon:{k}:c.cache+waits"
local NAMES = {"cache_delete", "cache_discard", "cache_lease", "cache_put", "cache_release"}

local function entry_text(id, soft, hard, body)
  return "\201RC\1" .. string.pack(">I1I1I2I8I6I6I4I8", 0, 0, 0, id, soft, hard, 5, 0) .. body
end

-- The model: entry = {text, soft, hard, at}, lease = {token, ms, at}; both in virtual ms.
local Model = {}
Model.__index = Model

function Model:look(now)
  local entry = self.entry
  if entry and now - entry.at >= entry.hard then self.entry, entry = nil, nil end
  if self.lease and now - self.lease.at >= self.lease.ms then self.lease = nil end
  if not entry then return nil, false end
  if entry.foreign then return nil, true end
  return entry, entry.hard - (now - entry.at), now - entry.at < entry.soft
end

function Model:take(now, token, ms, lost, seen, why)
  local entry, left, fresh = self:look(now)
  local trash = not entry and left
  local same = entry and seen ~= "" and entry.text:sub(1, 40) == seen
  if why == "reject" and same then entry, trash = nil, true end
  if entry and fresh and not (why == "early" and same) then return {FRESH, entry.text, left} end
  if trash then self.entry = nil end
  local lease = self.lease
  if lease and lease.token ~= token and not (lost ~= "" and lease.token == lost) then
    local busy = {entry and BUSY or WAIT, entry and entry.text or false, entry and left or 0}
    busy[4] = lease.ms - (now - lease.at)
    return busy, trash
  end
  self.lease = {token = token, ms = ms, at = now}
  return {entry and REFRESH or LOAD, entry and entry.text or false, entry and left or 0, ms}, true
end

function Model:put(now, token, text, soft, hard)
  self:look(now)
  if token ~= "" and not (self.lease and self.lease.token == token) then return {LOST} end
  self.entry = hard > 0 and {text = text, soft = soft, hard = hard, at = now} or nil
  self.lease = nil
  return {STORED}, true
end

function Model:release(now, token, pause)
  self:look(now)
  if not (self.lease and self.lease.token == token) then return {LOST} end
  self.lease = pause > 0 and {token = "failed", ms = pause, at = now} or nil
  return {STORED}, true
end

function Model:discard(now, seen)
  self:look(now)
  if not self.entry or seen == "" or self.entry.text:sub(1, 40) ~= seen then return {LOST} end
  self.entry = nil
  return {STORED}, true
end

describe("cache", function()
  local redis, stop, sha
  setup(function()
    redis, stop = server.start()
    sha = {}
    for _, name in ipairs(NAMES) do sha[name] = redis:call("SCRIPT", "LOAD", scripts.expand(name)) end
  end)
  teardown(function() stop() end)
  before_each(function() redis:call("FLUSHALL") end)

  local function lease(token, ms, lost, seen, why)
    return redis:call("EVALSHA", sha.cache_lease, 3, ENTRY, LEASE, WAITS, token, ms or 10000, lost or "", seen or "",
      why or "load")
  end
  local function put(token, text, ttl)
    return redis:call("EVALSHA", sha.cache_put, 3, ENTRY, LEASE, WAITS, token, text, ttl)
  end
  local function release(token, pause)
    return redis:call("EVALSHA", sha.cache_release, 2, LEASE, WAITS, token, pause or 0)
  end
  local function discard(seen) return redis:call("EVALSHA", sha.cache_discard, 1, ENTRY, seen) end

  local seed = math.tointeger(os.getenv("SEED") or 20261125)
  local steps = steps_of(30000)
  local schedules = math.tointeger(os.getenv("SCHEDULES") or 2000)
  print(("SEED=%d STEPS=%d SCHEDULES=%d"):format(seed, steps, schedules))

  -- What both keys have left at `now`, as commands.
  local function set_clock(model, round, now, commands)
    model:look(now)
    local entry, held = model.entry, model.lease
    if entry then commands[#commands + 1] = {"PEXPIRE", ENTRY .. round, entry.hard - (now - entry.at)}
    else commands[#commands + 1] = {"DEL", ENTRY .. round} end
    if held then commands[#commands + 1] = {"PEXPIRE", LEASE .. round, held.ms - (now - held.at)}
    else commands[#commands + 1] = {"DEL", LEASE .. round} end
  end

  -- One random step: the command, what the model answers, and whether something changed.
  local function random_step(model, round, tokens, texts, now)
    local entry, key = ENTRY .. round, LEASE .. round
    local how, token = math.random(12), tokens[math.random(#tokens)]
    local text = texts[math.random(#texts)]
    local seen = model.entry and math.random(3) > 1 and model.entry.text:sub(1, 40) or text:sub(1, 40)
    if how <= 6 then
      if math.random(3) > 1 then
        token = ("t%d"):format(#tokens + 1)
        tokens[#tokens + 1] = token
      end
      local ms = math.random(1, 4) * KS
      local lost = math.random(6) == 1 and tokens[math.random(#tokens)] or ""
      local why = ({"load", "load", "early", "reject"})[math.random(4)]
      if math.random(3) == 1 then seen = "" end
      return {"EVALSHA", sha.cache_lease, 3, entry, key, WAITS .. round, token, ms, lost, seen, why},
        model:take(now, token, ms, lost, seen, why)
    elseif how <= 9 then
      if math.random(5) == 1 then token = "" elseif model.lease and math.random(2) == 1 then token = model.lease.token end
      local soft = math.random(0, 4) * KS + KS // 2
      local hard = math.random(8) == 1 and 0 or soft + math.random(0, 3) * KS + KS // 4
      local fresh = entry_text(#texts + 1000 * round, soft, hard, ("v"):rep(math.random(0, 20)))
      texts[#texts + 1] = fresh
      local put_it = {"EVALSHA", sha.cache_put, 3, entry, key, WAITS .. round, token, fresh, hard}
      return put_it, model:put(now, token, fresh, soft, hard)
    elseif how == 10 then
      if model.lease and math.random(2) == 1 then token = model.lease.token end
      local pause = math.random(0, 2) * KS
      return {"EVALSHA", sha.cache_release, 2, key, WAITS .. round, token, pause}, model:release(now, token, pause)
    elseif how == 11 then
      return {"EVALSHA", sha.cache_discard, 1, entry, seen}, model:discard(now, seen)
    end
    local count = (model.entry and 1 or 0) + (model.lease and 1 or 0)
    model.entry, model.lease = nil, nil
    return {"UNLINK", entry, key}, count, true
  end

  local function same(got, want)
    if type(want) == "number" then return got == want end
    for place = 1, 4 do
      local a, b = got[place], want[place]
      if place >= 3 and a and b then -- ms left: some have passed
        if b - a < 0 or b - a > 100000 then return false end
      elseif a ~= b then
        return false
      end
    end
    return true
  end

  it("answers as the model over random steps; a refusal changes nothing; every key has a TTL", function()
    math.randomseed(seed)
    local done, round, seen = 0, 0, {}
    while done < steps do
      round = round + 1
      local model, tokens, texts, now = setmetatable({}, Model), {"nobody"}, {entry_text(0, 1, 1, "")}, 0
      local commands, expected = {}, {}
      for _ = 1, 300 do
        if math.random(3) == 1 then now = now + math.random(0, 3) * KS end
        set_clock(model, round, now, commands)
        commands[#commands + 1] = {"DUMP", ENTRY .. round}
        commands[#commands + 1] = {"GET", LEASE .. round}
        local command, answer, changes = random_step(model, round, tokens, texts, now)
        commands[#commands + 1] = command
        for _, each in ipairs {{"DUMP", ENTRY .. round}, {"GET", LEASE .. round}, {"PTTL", ENTRY .. round},
          {"PTTL", LEASE .. round}} do commands[#commands + 1] = each end
        expected[#expected + 1] = {answer = answer, changes = changes, name = command[1] .. " " .. tostring(command[2])}
      end
      local replies = redis:batch(commands)
      for i, want in ipairs(expected) do
        local at = 9 * (i - 1)
        local got = replies[at + 5]
        if not same(got, want.answer) then
          local function show(t)
            return type(t) == "table" and ("%s %s %s"):format(tostring(t[1] or t.err), t[3], t[4]) or t
          end
          error(("round %d, step %d (%s): %s, the model says %s"):format(round, i, want.name, show(got),
            show(want.answer)))
        end
        if not want.changes then
          assert(replies[at + 3] == replies[at + 6] and replies[at + 4] == replies[at + 7], "a refusal changed something")
        end
        for place = 8, 9 do assert(replies[at + place] ~= -1, "a key without a TTL") end
        local code = type(got) == "table" and got[1] or "deleted"
        seen[code] = (seen[code] or 0) + 1
      end
      done = done + #expected
    end
    for _, code in ipairs {FRESH, REFRESH, BUSY, LOAD, WAIT, LOST, "deleted"} do
      assert.is_true((seen[code] or 0) > steps // 200, "too few of " .. tostring(code))
    end
  end)

  -- Schedules: three loaders and two writers take their steps in random order.  A loader reads, takes the lease, reads
  -- the truth, and puts; a writer changes the truth, and deletes.  Returns how many reads saw what is older than a
  -- deletion that had ended before they began.  `put_script`: that of cache_put.
  local function run_schedules(count, put_script)
    local id, stale, loads = 0, 0, 0
    for n = 1, count do
      local truth, deleted, wall = 1, 0, {} -- wall: what a reader may not be below, from its begin on
      local entry, key = ENTRY .. n, LEASE .. n
      local function loader(name)
        for _ = 1, 2 do
          wall[name] = deleted
          local there = redis:call("GET", entry)
          if there and tonumber(there:sub(41)) < wall[name] then stale = stale + 1 end
          coroutine.yield()
          local token = name .. n .. math.random(1 << 30)
          local answer = redis:call("EVALSHA", sha.cache_lease, 3, entry, key, WAITS .. n, token, 10000, "", "", "load")
          if answer[1] == FRESH then
            if tonumber(answer[2]:sub(41)) < wall[name] then stale = stale + 1 end
          end
          coroutine.yield()
          if answer[1] == LOAD then
            local value = truth
            loads = loads + 1
            coroutine.yield()
            id = id + 1
            redis:call("EVALSHA", put_script, 3, entry, key, WAITS .. n, token, entry_text(id, KS, KS, tostring(value)),
              KS)
            coroutine.yield()
          end
        end
      end
      local function writer()
        truth = truth + 1
        local mine = truth
        coroutine.yield()
        redis:call("EVALSHA", sha.cache_delete, 3, entry, key, WAITS .. n)
        deleted = math.max(deleted, mine)
      end
      local running = {}
      for i = 1, 3 do running[i] = coroutine.create(loader) end
      for i = 4, 5 do running[i] = coroutine.create(writer) end
      local names = {"a", "b", "c", "d", "e"}
      while #running > 0 do
        local i = math.random(#running)
        assert(coroutine.resume(running[i], names[i]))
        if coroutine.status(running[i]) == "dead" then
          table.remove(running, i)
          table.remove(names, i)
        end
      end
      if n % 1000 == 0 then redis:call("FLUSHALL") end
    end
    return stale, loads
  end

  it("after a deletion no read yields what was loaded before it", function()
    math.randomseed(seed)
    local stale, loads = run_schedules(schedules, sha.cache_put)
    assert.are.equal(0, stale)
    assert.is_true(loads > schedules)
  end)

  it("and reads do where a put does not look at its lease", function()
    math.randomseed(seed)
    local look = 'if token ~= "" and redis%.call%("GET", lease%) ~= token'
    local text, seams = scripts.expand("cache_put"):gsub(look, "if false")
    assert.are.equal(1, seams)
    local stale = run_schedules(math.min(schedules, 2000), redis:call("SCRIPT", "LOAD", text))
    assert.is_true(stale > 0)
  end)

  it("of many who ask at once one is given the lease, and a put ends the wait", function()
    local given = 0
    for i = 1, 50 do
      local answer = lease("t" .. i)
      if answer[1] == LOAD then given = given + 1
      else
        assert.are.equal(WAIT, answer[1])
        assert.is_true(answer[4] > 9000 and answer[4] <= 10000)
      end
    end
    assert.are.equal(1, given)
    local text = entry_text(1, KS, KS, "v")
    assert.are.same({STORED}, put("t1", text, KS))
    assert.are.equal(0, redis:call("EXISTS", LEASE))
    local answer = lease("t60")
    assert.are.equal(FRESH, answer[1])
    assert.are.equal(text, answer[2])
    assert.are.same({LOST}, put("t1", entry_text(2, KS, KS, "late"), KS))
    assert.are.equal(text, redis:call("GET", ENTRY))
  end)

  it("what is stale is served to all while one loads it again", function()
    put("", entry_text(1, KS, 3 * KS, "old"), 3 * KS)
    redis:call("PEXPIRE", ENTRY, KS) -- 2 ks have passed
    assert.are.equal(REFRESH, lease("a")[1])
    for i = 1, 5 do
      local answer = lease("b" .. i)
      assert.are.equal(BUSY, answer[1])
      assert.are.equal("old", answer[2]:sub(41))
    end
    assert.are.same({STORED}, release("a"))
    assert.are.equal(REFRESH, lease("c")[1])
    -- With a pause nobody is given it for so long, not even who has failed.
    assert.are.same({STORED}, release("c", 5000))
    assert.are.same({LOST}, release("c", 5000))
    assert.are.same({LOST}, put("c", entry_text(2, KS, KS, "late"), KS))
    for _, token in ipairs {"c", "d"} do
      local answer = lease(token)
      assert.are.equal(BUSY, answer[1])
      assert.is_true(answer[4] > 4000 and answer[4] <= 5000)
    end
    redis:call("UNLINK", ENTRY, LEASE) -- a deletion ends it
    assert.are.equal(LOAD, lease("e")[1])
  end)

  it("an early load is one, though many decide on it: only who has read what is there still", function()
    local first = entry_text(1, KS, KS, "v")
    put("", first, KS)
    local seen = first:sub(1, 40)
    assert.are.equal(REFRESH, lease("a", nil, nil, seen, "early")[1])
    assert.are.equal(BUSY, lease("b", nil, nil, seen, "early")[1])
    put("a", entry_text(2, KS, KS, "v"), KS)
    assert.are.equal(FRESH, lease("b", nil, nil, seen, "early")[1])
    assert.are.equal(FRESH, lease("b")[1])
  end)

  it("what cannot be decoded is deleted, if it is still what was read", function()
    local bad = entry_text(1, KS, KS, "bad")
    put("", bad, KS)
    assert.are.equal(FRESH, lease("a", nil, nil, entry_text(2, KS, KS, ""):sub(1, 40), "reject")[1])
    assert.are.equal(LOAD, lease("a", nil, nil, bad:sub(1, 40), "reject")[1])
    assert.are.equal(0, redis:call("EXISTS", ENTRY))
    redis:call("FLUSHALL")
    for _, trash in ipairs {"x", "", ("\201RC\1"):rep(9), ("z"):rep(100), "\201RC\2" .. ("x"):rep(60)} do
      redis:call("SET", ENTRY, trash, "PX", KS)
      local answer = lease("t" .. #trash)
      assert.are.equal(LOAD, answer[1])
      assert.are.equal(0, redis:call("EXISTS", ENTRY))
      release("t" .. #trash)
    end
    redis:call("LPUSH", ENTRY, "a list")
    assert.are.equal(LOAD, lease("l")[1])
    assert.are.equal(0, redis:call("EXISTS", ENTRY))
    -- One that somebody made immortal is none: nothing would end it.
    redis:call("SET", ENTRY, bad)
    assert.are.equal(LOAD, lease("l")[1])
    put("", bad, KS)
    assert.are.same({LOST}, discard(bad:sub(1, 39)))
    assert.are.same({LOST}, discard(""))
    assert.are.same({STORED}, discard(bad:sub(1, 40)))
    assert.are.same({LOST}, discard(bad:sub(1, 40)))
    redis:call("SET", ENTRY, "short", "PX", KS)
    assert.are.same({LOST}, discard("shor"))
    assert.are.same({STORED}, discard("short"))
  end)

  it("a request for the lease takes over that of one whose answer was lost, and no other", function()
    assert.are.equal(LOAD, lease("lost")[1])
    assert.are.equal(WAIT, lease("b", nil, "another")[1])
    assert.are.equal(LOAD, lease("b", nil, "lost")[1])
    assert.are.same({LOST}, put("lost", entry_text(1, KS, KS, ""), KS))
    assert.are.same({LOST}, release("lost"))
    assert.are.same({STORED}, put("b", entry_text(1, KS, KS, ""), KS))
    assert.are.same({LOST}, put("b", entry_text(2, KS, KS, ""), KS))
  end)

  it("a clock set back makes nothing stale, and nothing younger than new", function()
    put("", entry_text(1, KS, 2 * KS, "v"), 2 * KS)
    redis:call("PEXPIRE", ENTRY, 5 * KS)
    local answer = lease("a")
    assert.are.equal(FRESH, answer[1])
  end)

  it("bad input is refused before anything is written", function()
    for _, bad in ipairs {{"t", 0}, {"t", -1}, {"t", 1.5}, {"t", "x"}, {"t", 86400001}, {"t", "nan"}, {"", 1000},
      {"t", 1000, "", "", "later"}} do
      assert.is_truthy(lease(bad[1], bad[2], bad[3], bad[4], bad[5]).err:find("cache_lease: ARGV", 1, true))
    end
    for _, bad in ipairs {-1, 0.5, "x", "nan", "inf", "1e300"} do
      assert.is_truthy(put("", "text", bad).err:find("hard TTL", 1, true))
    end
    for _, bad in ipairs {-1, 0.5, "x", "nan", 86400001} do
      assert.is_truthy(release("t", bad).err:find("the pause", 1, true))
    end
    assert.are.equal(0, redis:call("DBSIZE"))
    redis:call("LPUSH", LEASE, "x")
    local dump = redis:call("DUMP", LEASE)
    assert.is_truthy(lease("t").err:find("WRONGTYPE", 1, true))
    assert.is_truthy(put("t", "text", 1000).err:find("WRONGTYPE", 1, true))
    assert.is_truthy(release("t").err:find("WRONGTYPE", 1, true))
    assert.are.equal(dump, redis:call("DUMP", LEASE))
    assert.are.equal(0, redis:call("EXISTS", ENTRY))
  end)

  it("an entry takes 40 bytes more than its value, and a lease 130", function()
    local function bytes(key) return redis:call("MEMORY", "USAGE", key) end
    put("", entry_text(1, KS, KS, ("v"):rep(1000)), KS)
    lease(("t"):rep(32), nil, nil, redis:call("GETRANGE", ENTRY, 0, 39), "early")
    redis:call("SET", ENTRY .. "-", ("v"):rep(1000), "PX", KS)
    print(("bytes of an entry with 1,000: %d, of the plain string: %d, of a lease: %d"):format(bytes(ENTRY),
      bytes(ENTRY .. "-"), bytes(LEASE)))
    assert.is_true(bytes(ENTRY) <= bytes(ENTRY .. "-") + 300 and bytes(LEASE) <= 200)
  end)
end)
