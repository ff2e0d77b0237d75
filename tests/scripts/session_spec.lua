-- SPDX-License-Identifier: MIT
-- Sessions on a real server beside a model: for each subject the sessions that count, by the hashes of their ids.
-- Lifetimes are long against the test, so that they end only where a step lets one end.
local here = debug.getinfo(1, "S").source:match("^@(.*/)") or "./"
package.path = here .. "support/?.lua;" .. package.path
local scripts = require "scripts"
local server = require "server"
local steps_of = require "steps"

local OK, GONE, CONFLICT = 1, 0, -1
local TTL, HALF, AGE = 100000000, 50000000, 900000000 -- ms
local SECOND = 1000000
local START = 1760000000 * SECOND

local function index_of(subject) return "redmoon:{" .. subject .. "}:web.sessions" end
local function key_of(session) return "redmoon:{" .. session.subject .. "}:web.session." .. session.member end

describe("sessions", function()
  local redis, stop
  local sha = {}
  setup(function()
    redis, stop = server.start()
    for _, name in ipairs {"write", "load", "touch", "rotate", "revoke", "list", "revoke_all"} do
      local full = "session_" .. name
      local timed = name == "revoke" and scripts.expand(full) or scripts.expand_timed(full)
      sha[name] = redis:call("SCRIPT", "LOAD", timed)
      assert(type(sha[name]) == "string", sha[name].err)
    end
  end)
  teardown(function() stop() end)
  before_each(function() redis:call("FLUSHALL") end)

  local seed = math.tointeger(os.getenv("SEED") or 20261125)
  local steps = steps_of(8000)
  print("SEED=" .. seed .. " STEPS=" .. steps)

  local now
  local function run(name, keys, ...)
    local command = {"EVALSHA", sha[name], #keys, table.unpack(keys)}
    for _, arg in ipairs {...} do command[#command + 1] = arg end
    if name ~= "revoke" then command[#command + 1] = now end
    return redis:call(table.unpack(command))
  end
  -- assert.are.same, which is slow, only to say how they differ.
  local function same(want, got)
    local equal = #want == #got
    for i = 1, #want do equal = equal and want[i] == got[i] end
    if not equal then assert.are.same(want, got) end
  end
  local function near(got, want) return got <= want and got > want - 60000 end

  -- The model: sessions[member] = {subject, member, version, created, value, half}; `counts` says whether it is one.
  local sessions, serial
  local function new_session(subject)
    serial = serial + 1
    return {subject = subject, member = "m" .. serial}
  end
  local function pick_session()
    return serial > 0 and sessions["m" .. math.random(serial)] or {subject = "a", member = "never"}
  end
  local function count_of(subject)
    local count = 0
    for _, s in pairs(sessions) do
      if s.subject == subject and s.listed then count = count + 1 end
    end
    return count
  end
  local function next_version(s) return s.version and math.max(s.version + 1, now) or now end

  local ops = {}
  function ops.create()
    local s = new_session(math.random(2) == 1 and "a" or "b")
    sessions[s.member] = s
    s.version, s.created, s.value, s.counts, s.listed = now, now // 1000, tostring(serial), true, true
    local args = {s.member, 1, -1, TTL, 0, AGE, 1, "v", s.value}
    same({OK, s.version}, run("write", {key_of(s), index_of(s.subject)}, table.unpack(args)))
    if math.random(2) == 1 then -- its answer was lost, and it is repeated
      same({OK, s.version}, run("write", {key_of(s), index_of(s.subject)}, table.unpack(args)))
    end
  end
  function ops.update()
    local s, expected = pick_session(), -1
    if math.random(2) == 1 then expected = (s.version or 5) - math.random(0, 1) end
    local answer = run("write", {key_of(s), index_of(s.subject)}, s.member, 0, expected, TTL, 0, AGE, 1, "v", "new")
    if not s.counts then return same({GONE}, answer) end
    if expected >= 0 and expected ~= s.version then return same({CONFLICT, s.version}, answer) end
    s.version, s.value, s.half = next_version(s), "new", false
    same({OK, s.version}, answer)
  end
  function ops.load()
    local s, slides = pick_session(), math.random(2) == 1
    local answer = run("load", {key_of(s), index_of(s.subject)}, s.member, AGE, slides and TTL or 0, "v", "none")
    if not s.counts then return same({GONE}, answer) end
    if slides then s.half = false end
    assert.is_true(near(answer[4], s.half and HALF or TTL), answer[4])
    answer[4] = 0
    same({OK, s.version, s.created, 0, s.value, false}, answer)
  end
  function ops.touch()
    local s = pick_session()
    local answer = run("touch", {key_of(s), index_of(s.subject)}, s.member, AGE, TTL)
    same(s.counts and {OK, TTL} or {GONE}, answer)
    if s.counts then s.half = false end
  end
  function ops.rotate()
    local s = pick_session()
    local new = new_session(s.subject)
    local keys = {key_of(s), key_of(new), index_of(s.subject)}
    local answer = run("rotate", keys, s.member, new.member, AGE)
    same({s.counts and OK or GONE}, answer)
    sessions[new.member] = new
    if not s.counts then return end
    same({OK}, run("rotate", keys, s.member, new.member, AGE)) -- a repetition
    for name, value in pairs(s) do
      if name ~= "member" then new[name] = value end
    end
    s.counts, s.listed = false, false
  end
  function ops.revoke()
    local s = pick_session()
    local answer = run("revoke", {key_of(s), index_of(s.subject)}, s.member)
    same({s.counts and OK or GONE}, answer)
    s.counts, s.listed = false, false
    assert.are.equal(0, redis:call("EXISTS", key_of(s)))
  end
  function ops.revoke_all()
    if math.random(6) > 1 then return end
    local s = pick_session()
    local except = math.random(2) == 1 and s or nil
    local stays = except and except.listed
    local count = count_of(s.subject) - (stays and 1 or 0)
    same({OK, count}, run("revoke_all", {index_of(s.subject)}, except and except.member or ""))
    for _, other in pairs(sessions) do
      if other.subject == s.subject and other ~= except then other.counts, other.listed = false, false end
    end
  end
  function ops.list()
    local subject = math.random(2) == 1 and "a" or "b"
    local answer = run("list", {index_of(subject)})
    assert.are.equal(1 + 2 * count_of(subject), #answer)
    for i = 2, #answer, 2 do
      local s = sessions[answer[i]]
      assert(s.listed and s.subject == subject, s.member)
      -- One more when the clock went back by a microsecond, over the end of a millisecond.
      assert(answer[i + 1] > 0 and answer[i + 1] <= TTL + 1, answer[i + 1])
    end
  end
  function ops.get_old() -- half of its lifetime is over
    local s = pick_session()
    if redis:call("PEXPIRE", key_of(s), HALF) == 1 then s.half = true end
  end
  function ops.end_early() -- as an eviction does: the index still lists it
    local s = pick_session()
    if math.random(4) == 1 then
      redis:call("DEL", key_of(s))
      s.counts = false
    end
  end

  local function check_lifetimes()
    local commands, asked, longest = {}, {}, {a = 0, b = 0}
    for _, s in pairs(sessions) do
      asked[#asked + 1] = s
      commands[#commands + 1] = {"PTTL", key_of(s)}
    end
    for _, subject in ipairs {"a", "b"} do commands[#commands + 1] = {"PTTL", index_of(subject)} end
    local left = redis:batch(commands)
    for i, s in ipairs(asked) do
      assert(left[i] == -2 or left[i] > 0, left[i])
      assert(left[i] ~= -2 or not s.counts, s.member)
      if s.counts then longest[s.subject] = math.max(longest[s.subject], left[i]) end
    end
    assert(longest.a == 0 or left[#asked + 1] > longest.a)
    assert(longest.b == 0 or left[#asked + 2] > longest.b)
  end

  it("answer as the model over many random steps; what is refused changes nothing, and every key ends", function()
    math.randomseed(seed)
    now, sessions, serial = START, {}, 0
    local names = {}
    for name in pairs(ops) do names[#names + 1] = name end
    table.sort(names)
    for step = 1, steps do
      now = now + math.random(0, 5) - 1 -- now and then a microsecond back
      ops[names[math.random(#names)]]()
      if step % 50 == 0 then
        check_lifetimes()
        if serial > 60 then -- begin anew: what counts is not many sessions, but many steps
          redis:call("FLUSHALL")
          sessions, serial = {}, 0
        end
      end
    end
  end)

  it("refused calls leave session and index byte for byte as they were", function()
    now = START
    local a = {subject = "a", member = "m1"}
    local keys = {key_of(a), index_of("a")}
    run("write", keys, "m1", 1, -1, TTL, 0, AGE, 1, "v", "1")
    local before = {redis:call("DUMP", keys[1]), redis:call("DUMP", keys[2])}
    assert.are.same({CONFLICT, START}, run("write", keys, "m1", 0, 5, TTL, 0, AGE, 1, "v", "2"))
    for _, case in ipairs {{"write", "m1", 0, -1, 0, 0, AGE, 0}, {"write", "m1", 0, -1, TTL, 0, AGE, 1, "_v", "2"},
      {"write", "m1", 1, -1, TTL, 0, AGE, 2, "v", "2"}, {"load", "m1", "x", 0}, {"touch", "m1", 0, 0}} do
      assert.is_truthy(run(case[1], keys, table.unpack(case, 2)).err:find("ERR session_", 1, true))
    end
    assert.is_truthy(run("rotate", {keys[1], keys[1], keys[2]}, "m1", "m1", AGE).err:find("ERR session_", 1, true))
    -- A hash that the index does not name is no session, whatever is asked of it.
    local b = key_of {subject = "a", member = "m2"}
    redis:call("HSET", b, "_v", "1", "_c", "1", "v", "stolen")
    for _, case in ipairs {{"load", "m2", 0, TTL, "v"}, {"touch", "m2", 0, TTL}, {"write", "m2", 0, -1, TTL, 0, 0, 0}} do
      assert.are.same({GONE}, run(case[1], {b, keys[2]}, table.unpack(case, 2)))
    end
    assert.are.same({GONE}, run("rotate", {b, b .. "x", keys[2]}, "m2", "m3", AGE))
    assert.are.same(before, {redis:call("DUMP", keys[1]), redis:call("DUMP", keys[2])})
  end)

  it("the index says when a session ends, also after it was touched, and lists none that has ended", function()
    now = START
    local keys, now_ms = {"redmoon:{a}:web.session.m1", index_of("a")}, START // 1000
    run("write", keys, "m1", 1, -1, HALF, 0, 0, 0)
    local half = tonumber(redis:call("ZSCORE", keys[2], "m1")) - now_ms
    assert.is_true(near(half, HALF))
    run("touch", keys, "m1", 0, TTL)
    assert.is_true(near(tonumber(redis:call("ZSCORE", keys[2], "m1")) - now_ms, TTL))
    assert.is_true(redis:call("PTTL", keys[2]) > redis:call("PTTL", keys[1]))
    redis:call("ZADD", keys[2], now_ms, "just ended", now_ms + 1, "just not")
    local list = run("list", {keys[2]})
    assert.are.equal(5, #list)
    assert.are.equal("m1", list[2])
    assert.are.same({"just not", 1}, {list[4], list[5]})
    assert.are.same({OK, 2}, run("revoke_all", {keys[2]}, ""))
  end)

  it("memory of a session and its place in the index", function()
    now = START
    local member = ("h"):rep(22)
    local key, index = "redmoon:{" .. ("t"):rep(22) .. "}:web.session." .. member, index_of(("t"):rep(22))
    local fields = {"user_id", "user:12345", "visits", "17", "created_at", "1760000000000000"}
    run("write", {key, index}, member, 1, -1, TTL, 0, AGE, 3, table.unpack(fields))
    print("bytes of a session of three fields: " .. redis:call("MEMORY", "USAGE", key) .. ", of an index of one: "
      .. redis:call("MEMORY", "USAGE", index))
  end)
end)
