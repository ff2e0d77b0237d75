-- SPDX-License-Identifier: MIT
-- Records on a real server, in virtual time, beside a model: a table of fields, a version, an age and an end.
local here = debug.getinfo(1, "S").source:match("^@(.*/)") or "./"
package.path = here .. "support/?.lua;" .. package.path
local scripts = require "scripts"
local server = require "server"
local steps_of = require "steps"

local OK, GONE, CONFLICT, RANGE, UNREADABLE = 1, 0, -1, -2, -3
local KEY = "redmoon:{u}:s.record"
local REQUEST = KEY .. "+req.r1"
local SECOND = 1000000 -- the clock's unit; lifetimes are in ms
local START = 1760000000 * SECOND
local UNTOUCHED = 900000000 -- ms: a lifetime that no script sets

-- Clock and lifetime come from the test: the last two arguments.
local function expand_virtual(name)
  local text = scripts.expand_timed(name):gsub('redis%.call%("PTTL", record%)', "virtual_left")
  return "local virtual_left = tonumber(table.remove(ARGV))\n" .. text
end

-- The model.  Its clock is in us, all else in ms.
local Model = {}
Model.__index = Model

local function new_model() return setmetatable({ttl = 0, max_age = 0, keep = false}, Model) end

function Model:forget_what_ended()
  local record = self.record
  if record and record.ends and record.ends <= self.now // 1000 then self.record = nil end
end

-- ms that its key has left: -1 for ever, -2 no key.
function Model:key_left()
  if not self.record then return -2 end
  return self.record.ends and self.record.ends - self.now // 1000 or -1
end

-- The record, unless it is too old; and how long it may live at most.
function Model:look()
  local record = self.record
  if not record then return nil end
  if self.max_age == 0 then return record, nil end
  local most = record.created + self.max_age - math.max(self.now // 1000, record.created)
  if most <= 0 then return nil end
  return record, most
end

function Model:end_in(ms) self.record.ends, self.set_to = self.now // 1000 + ms, ms end

function Model:begin_life(before, most)
  most = before and most or self.max_age > 0 and self.max_age or nil
  local wanted = self.ttl > 0 and self.ttl or nil
  if most and (not wanted or wanted > most) then wanted = most end
  if not wanted then return end
  local has = self:key_left()
  if before and self.keep and has >= 0 then
    if most and has > most then self:end_in(most) end
    return
  end
  self:end_in(wanted)
end

function Model:next_version(before)
  return before and math.max(before.version + 1, self.now) or self.now
end

function Model:write(replace, expected, sets, drops)
  local before, most = self:look()
  local version = before and before.version or 0
  if expected >= 0 and expected ~= version then return {CONFLICT, version} end
  if not before and not replace then return {GONE} end
  local fields = {}
  for name, value in pairs(not replace and before.fields or {}) do fields[name] = value end
  for i = 1, #sets, 2 do fields[sets[i]] = sets[i + 1] end
  for _, name in ipairs(drops) do fields[name] = nil end
  self.record = {fields = fields, version = self:next_version(before),
    created = before and before.created or self.now // 1000, ends = self.record and self.record.ends}
  self:begin_life(before, most)
  if replace and self.ttl == 0 and self.max_age == 0 then self.record.ends = nil end
  return {OK, self.record.version}
end

local function shortest(number)
  for digits = 15, 17 do
    local text = ("%%.%dg"):format(digits):format(number)
    if digits == 17 or tonumber(text) == number then return text end
  end
end

local function add(stored, by, exact)
  if not exact then
    local number = stored:find("^[-+.%de]+$") and tonumber(stored)
    if not number then return nil, UNREADABLE end
    local sum = number + by
    if sum ~= sum or math.abs(sum) == math.huge then return nil, RANGE end
    return shortest(sum + 0.0)
  end
  local number = math.tointeger(stored)
  if not number or stored ~= ("%d"):format(number) then return nil, UNREADABLE end
  if by > 0 and number > math.maxinteger - by or by < 0 and number < math.mininteger - by then return nil, RANGE end
  return ("%d"):format(number + by)
end

function Model:increment(field, by, exact)
  local before, most = self:look()
  if not before then return {GONE} end
  local sum, failure = add(before.fields[field] or "0", by, exact)
  if not sum then return {failure} end
  before.fields[field] = sum
  before.version = self:next_version(before)
  self:begin_life(before, most)
  return {OK, before.version, sum}
end

function Model:load(names, sliding)
  local record, most = self:look()
  if not record then return {GONE} end
  local has = self:key_left()
  if sliding then
    local full = most and math.min(most, self.ttl) or self.ttl
    if has * 10 < full * 9 or most and has > most then
      self:end_in(full)
      has = full
    end
  elseif most and (has < 0 or has > most) then
    has = most
  end
  local answer = {OK, record.version, record.created, has}
  for _, name in ipairs(names) do answer[#answer + 1] = record.fields[name] or false end
  return answer
end

function Model:touch()
  local record, most = self:look()
  if not record then return {GONE} end
  local has = self:key_left()
  local wanted = self.ttl > 0 and math.min(self.ttl, most or self.ttl) or nil
  if most and (has < 0 or has > most) then wanted = most end
  if not wanted then return {OK, has} end
  self:end_in(wanted)
  return {OK, wanted}
end

local function show(value)
  if type(value) ~= "table" then return ("%q"):format(value) end
  if value.err then return value.err end
  local out = {}
  for i, item in ipairs(value) do out[i] = show(item) end
  return "{" .. table.concat(out, ", ") .. "}"
end

local FIELDS = {"s", "n", "d", "x"}
local STRINGS = {"", "a", ("b"):rep(70), "\0\r\n\255", "12", "-7", "1.5", "0x10", "9223372036854775807", " 1"}
local STEPS_BY = {1, -1, 2, 1000, math.maxinteger, math.mininteger, math.maxinteger - 5}
local NUMBERS = {1.0, -0.5, 0.1, 1e-20, 1e308, -1e308, 5e-324, 123456789.123}

describe("records", function()
  local redis, stop
  local sha = {}
  setup(function()
    redis, stop = server.start()
    for _, name in ipairs {"write", "load", "slide", "touch", "increment", "delete"} do
      local full = "record_" .. name
      local text = name == "delete" and scripts.expand(full) or expand_virtual(full)
      local reply = redis:call("SCRIPT", "LOAD", text)
      assert(type(reply) == "string", show(reply))
      sha[name] = reply
    end
  end)
  teardown(function() stop() end)
  before_each(function() redis:call("FLUSHALL") end)

  local seed = math.tointeger(os.getenv("SEED") or 20261125)
  local steps = steps_of(40000)
  print("SEED=" .. seed .. " STEPS=" .. steps)

  local function pick(list) return list[math.random(#list)] end

  local function roll_options(model)
    model.ttl = math.random(4) == 1 and 0 or math.random(10, 60) * 10000
    model.max_age = math.random(2) == 1 and 0 or math.random(10, 90) * 10000
    model.keep = model.ttl > 0 and math.random(3) == 1
    model.sliding = model.ttl > 0 and not model.keep and math.random(2) == 1
  end

  local function roll_write(model, replace)
    local record, sets, drops = model.record, {}, {}
    for _, name in ipairs(FIELDS) do
      local how = math.random(4)
      if how == 1 then
        sets[#sets + 1] = name
        sets[#sets + 1] = pick(STRINGS)
      elseif how == 2 and not replace then
        drops[#drops + 1] = name
      end
    end
    local expected = -1
    local how = math.random(6)
    if how == 1 then expected = record and record.version or 0
    elseif how == 2 then expected = record and record.version - math.random(1, 3) or math.random(0, 5)
    elseif how == 3 then expected = 0 end
    local args = {replace and 1 or 0, expected, model.ttl, model.keep and 1 or 0, model.max_age, #sets // 2}
    for _, arg in ipairs(sets) do args[#args + 1] = arg end
    for _, arg in ipairs(drops) do args[#args + 1] = arg end
    return "write", args, model:write(replace, expected, sets, drops)
  end

  -- One step: the script's name, its arguments, and what the model answers.
  local function roll(model)
    local how = math.random(12)
    if how <= 2 then return roll_write(model, true) end
    if how <= 5 then return roll_write(model, false) end
    if how == 6 then
      local there = model.record ~= nil
      model.record = nil
      return "delete", {}, {there and 1 or 0}
    end
    if how == 7 then return "touch", {model.max_age, model.ttl}, model:touch() end
    if how <= 9 then
      local exact, field = math.random(2) == 1, pick {"n", "d"}
      local by = exact and pick(STEPS_BY) or pick(NUMBERS)
      local args = {field, exact and by or shortest(by), exact and 1 or 0, model.ttl, model.keep and 1 or 0,
        model.max_age}
      return "increment", args, model:increment(field, by, exact)
    end
    local names = {}
    for _ = 1, math.random(0, 4) do names[#names + 1] = pick(FIELDS) end
    local args = {model.max_age}
    if model.sliding then args[2] = model.ttl end
    table.move(names, 1, #names, #args + 1, args)
    return model.sliding and "slide" or "load", args, model:load(names, model.sliding)
  end

  local function move_clock(model)
    local how = math.random(12)
    if how == 1 then model.now = model.now - math.random(0, 300) * SECOND -- set back
    elseif how <= 4 then model.now = model.now + math.random(0, 700) * SECOND
    elseif how <= 8 then model.now = model.now + math.random(0, 30) * SECOND end
  end

  local function same_fields(got, record)
    if not record then return #got == 0 end
    local count = 2
    for _ in pairs(record.fields) do count = count + 1 end
    if #got ~= 2 * count then return false end
    for i = 1, #got, 2 do
      local want = got[i] == "_v" and ("%d"):format(record.version) or got[i] == "_c" and ("%d"):format(record.created)
        or record.fields[got[i]]
      if got[i + 1] ~= want then return false end
    end
    return true
  end

  local function copy(record)
    if not record then return nil end
    local fields = {}
    for name, value in pairs(record.fields) do fields[name] = value end
    return {fields = fields, version = record.version, created = record.created}
  end

  it("answer as the model, with the fields, version and lifetime that it says, over many random steps", function()
    math.randomseed(seed)
    local model = new_model()
    model.now = START
    roll_options(model)
    local seen, commands, expected = {}, {}, {}
    for step = 1, steps do
      if math.random(25) == 1 then roll_options(model) end
      move_clock(model)
      local had = model.record
      model:forget_what_ended()
      local sync = model.record and model.record.ends and {"PEXPIRE", KEY, UNTOUCHED} or {"PERSIST", KEY}
      commands[#commands + 1] = had and not model.record and {"DEL", KEY} or sync
      local left, now = model:key_left(), model.now
      model.set_to = nil
      local name, args, answer = roll(model)
      local command = {"EVALSHA", sha[name], 1, KEY}
      for _, arg in ipairs(args) do command[#command + 1] = arg end
      if name ~= "delete" then
        command[#command + 1] = now
        command[#command + 1] = left
      end
      commands[#commands + 1] = command
      commands[#commands + 1] = {"PTTL", KEY}
      commands[#commands + 1] = {"HGETALL", KEY}
      expected[#expected + 1] = {step = step, name = name, args = args, answer = answer, record = copy(model.record),
        life = model.set_to or model.record and (model.record.ends and UNTOUCHED or -1) or -2}
      seen[name .. answer[1]] = true
      if #expected == 100 or step == steps then
        local replies = redis:batch(commands)
        for i, want in ipairs(expected) do
          local reply, pttl, all = replies[4 * i - 2], replies[4 * i - 1], replies[4 * i]
          local what = ("step %d, %s%s: "):format(want.step, want.name, show(want.args))
          assert(show(reply) == show(want.answer), what .. show(reply) .. ", the model says " .. show(want.answer))
          local life = want.life
          local near = life < 0 and pttl == life or life > 0 and pttl <= life and pttl > life - 1000
          assert(near, what .. "PTTL " .. pttl .. ", the model says " .. life)
          assert(same_fields(all, want.record), what .. show(all))
        end
        commands, expected = {}, {}
      end
    end
    for _, case in ipairs {"write1", "write0", "write-1", "load1", "load0", "slide1", "slide0", "touch1", "touch0",
      "delete1", "delete0", "increment1", "increment0", "increment-2", "increment-3"} do
      assert(seen[case], case .. " did not happen")
    end
  end)

  local function run(name, keys, args, now, left)
    local command = {"EVALSHA", sha[name], #keys}
    for _, key in ipairs(keys) do command[#command + 1] = key end
    for _, arg in ipairs(args) do command[#command + 1] = arg end
    command[#command + 1] = now or START
    command[#command + 1] = left or -1
    return redis:call(table.unpack(command))
  end
  local function save(...) return run("write", {KEY}, {1, -1, 60000, 0, 0, select("#", ...) // 2, ...}) end

  it("a refused call leaves the record byte for byte as it was, its lifetime too", function()
    save("n", "9223372036854775807", "s", "text", "d", "1e308")
    local dump, ends = redis:call("DUMP", KEY), redis:call("PEXPIRETIME", KEY)
    local refused = {
      {"write", {1, 5, 1000, 0, 0, 1, "n", "1"}, {CONFLICT, START}},
      {"write", {0, START + 1, 1000, 0, 0, 0, "s"}, {CONFLICT, START}},
      {"write", {1, 0, 1000, 0, 0, 0}, {CONFLICT, START}},
      {"increment", {"n", 1, 1, 1000, 0, 0}, {RANGE}},
      {"increment", {"s", 1, 1, 1000, 0, 0}, {UNREADABLE}},
      {"increment", {"s", 1, 0, 1000, 0, 0}, {UNREADABLE}},
      {"increment", {"d", "1e308", 0, 1000, 0, 0}, {RANGE}},
      {"load", {0, "n"}, {OK, START, START // 1000, -1, "9223372036854775807"}},
    }
    for _, case in ipairs(refused) do
      assert.are.same(case[3], run(case[1], {KEY}, case[2]))
      assert.are.equal(dump, redis:call("DUMP", KEY))
      assert.are.equal(ends, redis:call("PEXPIRETIME", KEY))
    end
    assert.are.equal(1, redis:call("DBSIZE"))
  end)

  it("bad input is refused before anything is written", function()
    local bad = {
      {"write", {1, "x", 0, 0, 0, 0}}, {"write", {1, -1, -5, 0, 0, 0}}, {"write", {1, -1, 1.5, 0, 0, 0}},
      {"write", {1, -1, 0, 0, "nan", 0}}, {"write", {1, -1, 0, 0, 0, 2, "a", "1"}},
      {"write", {1, -1, 0, 0, 0, 1, "_v", "1"}},
      {"write", {1, -1, 0, 0, 0, 0, "_c"}}, {"write", {1, -1, 0, 0, 0, -1}},
      {"increment", {"_v", 1, 1, 0, 0, 0}}, {"increment", {"n", "x", 1, 0, 0, 0}}, {"increment", {"n", 1, 1, "x", 0, 0}},
      {"load", {"x", "n"}}, {"slide", {0, 0, "n"}}, {"touch", {0, "x"}},
    }
    for _, case in ipairs(bad) do
      assert.is_truthy(run(case[1], {KEY}, case[2]).err:find("ERR record_" .. case[1], 1, true), show(case[2]))
    end
    assert.are.equal(0, redis:call("DBSIZE"))
  end)

  it("a hash of others is no record, and is left as it is", function()
    redis:call("HSET", KEY, "n", "1")
    local dump = redis:call("DUMP", KEY)
    for _, case in ipairs {{"write", {1, -1, 1000, 0, 0, 0}}, {"write", {0, -1, 1000, 0, 0, 0}}, {"load", {0, "n"}},
      {"slide", {0, 1000, "n"}}, {"touch", {0, 1000}}, {"increment", {"n", 1, 1, 1000, 0, 0}}} do
      assert.is_truthy(run(case[1], {KEY}, case[2]).err:find("no record", 1, true))
    end
    assert.are.equal(dump, redis:call("DUMP", KEY))
    redis:call("SET", KEY, "x")
    assert.is_truthy(run("write", {KEY}, {1, -1, 0, 0, 0, 0}).err:find("WRONGTYPE", 1, true))
    assert.are.equal("x", redis:call("GET", KEY))
  end)

  it("a record of 1,000 fields is replaced by another of 1,000, and loaded", function()
    local first, second, names = {}, {}, {}
    for i = 1, 1000 do
      first[2 * i - 1], first[2 * i] = "a" .. i, "x"
      second[2 * i - 1], second[2 * i] = "b" .. i, tostring(i)
      names[i] = "b" .. i
    end
    local head = {1, -1, 60000, 0, 0, 1000}
    run("write", {KEY}, table.move(first, 1, 2000, 7, {table.unpack(head)}))
    assert.are.equal(1002, redis:call("HLEN", KEY))
    run("write", {KEY}, table.move(second, 1, 2000, 7, {table.unpack(head)}))
    assert.are.equal(1002, redis:call("HLEN", KEY))
    local loaded = run("load", {KEY}, {0, table.unpack(names)})
    assert.are.equal("1000", loaded[1004])
    assert.are.equal("1", loaded[5])
  end)

  it("a version that was known before a deletion is not that of the record made after it", function()
    local old = save("n", "1")[2]
    redis:call("EVALSHA", sha.delete, 1, KEY)
    run("write", {KEY}, {1, -1, 60000, 0, 0, 1, "n", "2"}, START + 1)
    assert.are.same({CONFLICT, START + 1}, run("write", {KEY}, {0, old, 60000, 0, 0, 1, "n", "3"}, START + 2))
  end)

  it("a request is done once: a repetition gets the same answer, and changes nothing", function()
    save("n", "1")
    local keys = {KEY, REQUEST}
    local answer = run("increment", keys, {"n", 5, 1, 60000, 0, 0}, START + 1)
    assert.are.same({OK, START + 1, "6"}, answer)
    local dump = redis:call("DUMP", KEY)
    assert.are.same(answer, run("increment", keys, {"n", 5, 1, 60000, 0, 0}, START + 9))
    assert.are.equal(dump, redis:call("DUMP", KEY))
    redis:call("DEL", REQUEST)
    answer = run("write", keys, {0, START + 1, 60000, 0, 0, 1, "n", "7"}, START + 10)
    assert.are.same({OK, START + 10}, answer)
    assert.are.same(answer, run("write", keys, {0, START + 1, 60000, 0, 0, 1, "n", "7"}, START + 20))
    local left = redis:call("PTTL", REQUEST)
    assert.is_true(left > 590000 and left <= 600000)
    redis:call("DEL", REQUEST)
    assert.are.same({CONFLICT, START + 10}, run("write", keys, {0, 5, 60000, 0, 0, 0}, START + 30))
    assert.are.equal(0, redis:call("EXISTS", REQUEST))
  end)

  it("a sliding record in steady use is written ten times in a lifetime at most, and ends with its age", function()
    local ttl, age = 100000, 1000000
    run("write", {KEY}, {1, -1, ttl, 0, age, 0}, START, -2)
    local now, reads, writes, ends = START, 0, 0, START // 1000 + ttl
    while true do
      now = now + 500000 -- twice a second
      if ends <= now // 1000 then break end
      redis:call("PERSIST", KEY)
      local answer = run("slide", {KEY}, {age, ttl}, now, ends - now // 1000)
      assert.are.equal(OK, answer[1])
      reads = reads + 1
      if redis:call("PTTL", KEY) > 0 then
        writes = writes + 1
        ends = now // 1000 + answer[4]
      end
      assert.is_true(ends <= START // 1000 + age)
    end
    assert.are.equal(START // 1000 + age, ends)
    assert.is_true(writes / reads <= 0.1, writes .. " writes in " .. reads .. " reads")
    assert.are.same({GONE}, run("slide", {KEY}, {age, ttl}, now, -1))
  end)

  it("lifetimes on the server's own clock: every write sets one, in the same step", function()
    local write = scripts.expand("record_write")
    redis:call("EVAL", write, 1, KEY, 1, -1, 60000, 0, 0, 1, "n", "1")
    local left = redis:call("PTTL", KEY)
    assert.is_true(left > 50000 and left <= 60000)
    redis:call("PEXPIRE", KEY, 30000)
    redis:call("EVAL", write, 1, KEY, 0, -1, 60000, 1, 0, 1, "n", "2") -- keep
    assert.is_true(redis:call("PTTL", KEY) <= 30000)
    redis:call("EVAL", write, 1, KEY, 0, -1, 60000, 1, 20000, 1, "n", "2") -- but not beyond its age
    assert.is_true(redis:call("PTTL", KEY) <= 20000)
    redis:call("PERSIST", KEY)
    redis:call("EVAL", write, 1, KEY, 0, -1, 60000, 1, 0, 1, "n", "2") -- what should have one gets it again
    assert.is_true(redis:call("PTTL", KEY) > 50000)
  end)

  it("a client that dies between any two bytes of a write leaves no record, or a whole one with its lifetime", function()
    local unix = require "socket.unix"
    local path = redis:call("CONFIG", "GET", "unixsocket")[2]
    local loaded = redis:call("SCRIPT", "LOAD", scripts.expand("record_write"))
    local words, request = {"EVALSHA", loaded, "1", KEY, "1", "-1", "60000", "0", "0", "2", "n", "1", "s", "text"}, {}
    for i, word in ipairs(words) do request[i] = ("$%d\r\n%s\r\n"):format(#word, word) end
    request = ("*%d\r\n"):format(#words) .. table.concat(request)
    local function accepted() return tonumber(redis:call("INFO", "stats"):match("total_connections_received:(%d+)")) end
    local whole = 0
    for len = 1, #request do
      redis:call("DEL", KEY)
      local before = accepted()
      local link = unix.stream and unix.stream() or unix()
      assert(link:connect(path))
      assert(link:send(request:sub(1, len)))
      link:close()
      repeat until accepted() > before and not redis:call("CLIENT", "LIST"):find("\n.") -- it came, and only we are left
      if redis:call("EXISTS", KEY) == 1 then
        whole = whole + 1
        assert.are.equal(4, redis:call("HLEN", KEY))
        assert.is_true(redis:call("PTTL", KEY) > 0)
      end
    end
    assert.are.equal(1, whole)
  end)

  it("a server without memory refuses a write and leaves the record as it was", function()
    save("n", "1")
    local dump = redis:call("DUMP", KEY)
    redis:call("CONFIG", "SET", "maxmemory", "1")
    local replace = run("write", {KEY}, {1, -1, 60000, 0, 0, 1, "m", "1"})
    local add_one = run("increment", {KEY}, {"n", 1, 1, 60000, 0, 0})
    redis:call("CONFIG", "SET", "maxmemory", "0")
    assert.is_truthy(replace.err:find("OOM", 1, true))
    assert.is_truthy(add_one.err:find("OOM", 1, true))
    assert.are.equal(dump, redis:call("DUMP", KEY))
  end)

  it("memory of a session of three fields", function()
    save("user_id", "user:12345", "visits", "17", "created_at", "1760000000000000")
    local bytes = redis:call("MEMORY", "USAGE", KEY, "SAMPLES", 0)
    print("bytes of a record of three fields: " .. bytes)
    assert.is_true(bytes <= 250, bytes)
  end)
end)
