-- SPDX-License-Identifier: MIT
-- The read-write lock on a real server, in virtual time, beside a model.
local here = debug.getinfo(1, "S").source:match("^@(.*/)") or "./"
package.path = here .. "support/?.lua;" .. package.path
local scripts = require "scripts"
local server = require "server"
local steps_of = require "steps"

local OK, BUSY, GONE = 1, 0, -1
local SECOND = 1000000
local START = 1760000000 * SECOND
local PARTS = {"readers", "writer", "waiting", "fence"}
local WAITS = {rwlock_read = true, rwlock_write = true, rwlock_release = true, permit_release = true}

-- The model: ends of leases of the readers by token; the writer's token, end and fence; the end of the flag.
local Model = {}
Model.__index = Model

local function new_model() return setmetatable({readers = {}, waiting = 0, fence = 0}, Model) end

function Model:live(now)
  local count, last = 0, 0
  for _, ends in pairs(self.readers) do
    if ends > now then
      count = count + 1
      last = math.max(last, ends)
    end
  end
  return count, last
end

function Model:writes(now) return self.writer and self.writer.ends > now and self.writer or nil end

function Model:read(now, token, lease, own)
  local ends = self.readers[token]
  if ends and ends > now then return {OK, ends - now} end
  local writer = self:writes(now)
  if writer and writer.token ~= own then return {BUSY, writer.ends - now, 1} end
  local wait = self.waiting - now
  if not writer and wait > 0 and wait <= 10 * SECOND then return {BUSY, wait, 0} end
  if not writer then self.writer = nil end
  for other, over in pairs(self.readers) do
    if over <= now then self.readers[other] = nil end
  end
  self.readers[token] = now + lease * 1000
  return {OK, lease * 1000}
end

function Model:write(now, token, lease, wait)
  local writer = self:writes(now)
  if writer and writer.token == token then return {OK, writer.ends - now, writer.fence} end
  local count, last = self:live(now)
  local busy = math.max(last, writer and writer.ends or 0)
  if busy > now then
    if wait > 0 then self.waiting = now + wait * 1000 end
    return {BUSY, busy - now, count}
  end
  self.fence = math.max(self.fence + 1, now)
  self.readers, self.waiting = {}, 0
  self.writer = {token = token, ends = now + lease * 1000, fence = self.fence}
  return {OK, lease * 1000, self.fence}
end

function Model:extend(now, token, lease)
  local writer = self:writes(now)
  if not writer then return {GONE} end
  if writer.token ~= token then return {BUSY} end
  writer.ends = math.max(writer.ends, now + lease * 1000)
  return {OK, writer.ends - now}
end

function Model:release(now, token)
  local writer = self:writes(now)
  if not writer then return {GONE} end
  if writer.token ~= token then return {BUSY} end
  self.writer = nil
  return {OK}
end

function Model:reader_extend(now, token, lease)
  local ends = self.readers[token]
  if not ends or ends <= now then return {GONE} end
  self.readers[token] = math.max(ends, now + lease * 1000)
  return {OK, self.readers[token] - now}
end

function Model:reader_release(now, token)
  local ends = self.readers[token]
  if not ends or ends <= now then return {GONE} end
  self.readers[token] = nil
  return {OK}
end

describe("rwlock", function()
  local redis, stop, sha
  setup(function()
    redis, stop = server.start()
    sha = {}
    for _, name in ipairs {"rwlock_read", "rwlock_write", "rwlock_extend", "rwlock_release", "permit_extend",
      "permit_release"} do
      sha[name] = redis:call("SCRIPT", "LOAD", scripts.expand_timed(name))
    end
  end)
  teardown(function() stop() end)
  before_each(function() redis:call("FLUSHALL") end)

  local function key(part, round) return "redmoon:{" .. (round or "l") .. "}:rwlock." .. part end
  local function command(name, count, round, ...)
    local out = {"EVALSHA", sha[name], count}
    for i = 1, count do out[#out + 1] = key(PARTS[i], round) end
    if name:find("^rwlock_[er]") and count == 1 then out[4] = key("writer", round) end
    if WAITS[name] then
      out[3] = count + 1
      out[#out + 1] = key("waits", round)
    end
    for _, arg in ipairs {...} do out[#out + 1] = arg end
    return out
  end
  local function run(...) return redis:call(table.unpack(command(...))) end
  local function read(now, token, lease, own)
    return run("rwlock_read", 3, nil, token, lease or 100000, own or "", now)
  end
  local function write(now, token, wait, lease)
    return run("rwlock_write", 4, nil, token, lease or 100000, wait or 0, now)
  end

  local seed = math.tointeger(os.getenv("SEED") or 20261125)
  local steps = steps_of(40000)
  print("SEED=" .. seed .. " STEPS=" .. steps)

  -- One random step of owner `who`: the command, the model's answer, and which keys it may change.
  local function random_step(model, round, who, now)
    local lease = math.random(3) == 1 and 100000 or math.random(50000, 300000)
    local reader, writer = "r" .. who, "w" .. who
    local how = math.random(12)
    if how <= 4 then
      local own = model:writes(now) and model.writer.token == writer and writer or ""
      local answer = model:read(now, reader, lease, own)
      return command("rwlock_read", 3, round, reader, lease, own, now), answer, answer[1] == OK and "all" or "none"
    elseif how <= 7 then
      local wait = math.random(2) == 1 and math.random(8000, 10000) or 0
      local answer = model:write(now, writer, lease, wait)
      local changes = answer[1] == OK and "all" or wait > 0 and "waiting" or "none"
      return command("rwlock_write", 4, round, writer, lease, wait, now), answer, changes
    elseif how == 8 then
      local answer = model:extend(now, writer, lease)
      return command("rwlock_extend", 1, round, writer, lease, now), answer, answer[1] == OK and "all" or "none"
    elseif how == 9 then
      local answer = model:release(now, writer)
      return command("rwlock_release", 1, round, writer, now), answer, answer[1] == OK and "all" or "none"
    elseif how == 10 then
      local answer = model:reader_extend(now, reader, lease)
      return command("permit_extend", 1, round, reader, 1, lease, now), answer, answer[1] == OK and "all" or "none"
    end
    local answer = model:reader_release(now, reader)
    return command("permit_release", 1, round, reader, 1, now), answer, answer[1] == OK and "all" or "none"
  end

  -- A writer and the readers of others never live together: only its owner's own reading does, begun while it wrote.
  local function check_exclusion(model, now)
    local writer = model:writes(now)
    if not writer then return end
    for token, ends in pairs(model.readers) do
      assert(ends <= now or token:sub(2) == writer.token:sub(2), "a reader beside another's writer")
    end
  end

  it("answers as the model over random steps; a refusal changes nothing; nobody reads what another writes", function()
    math.randomseed(seed)
    local done, round, seen = 0, 0, {}
    while done < steps do
      round = round + 1
      local model, now, ready, commands, expected = new_model(), START, nil, {}, {}
      for _ = 1, 400 do
        local step = math.random(12)
        if step == 1 then now = now - math.random(0, 400 * SECOND) -- the clock is set back
        elseif step == 2 and ready then now = ready
        elseif step == 3 and ready then now = ready - 1
        elseif step <= 6 then now = now + math.random(0, 60 * SECOND)
        elseif step <= 9 then now = now + math.random(0, 3 * SECOND) end
        check_exclusion(model, now)
        local sent, answer, changes = random_step(model, round, math.random(4), now)
        check_exclusion(model, now)
        ready = answer[1] == BUSY and answer[2] and now + answer[2] or nil
        local what = sent[2] .. " " .. answer[1] .. (answer[1] == BUSY and tostring(answer[3] == 0) or "")
        seen[what] = (seen[what] or 0) + 1
        commands[#commands + 1] = sent
        for _, part in ipairs(PARTS) do commands[#commands + 1] = {"DUMP", key(part, round)} end
        for _, part in ipairs(PARTS) do commands[#commands + 1] = {"PTTL", key(part, round)} end
        expected[#expected + 1] = {answer = answer, changes = changes, now = now}
      end
      local replies, dumps = redis:batch(commands), {false, false, false, false}
      for i, want in ipairs(expected) do
        local at = (i - 1) * 9 + 1
        for place = 1, 4 do
          local got = replies[at][place]
          if got ~= want.answer[place] then
            error(("round %d, step %d at %d: place %d is %s, the model says %s"):format(round, i, want.now, place,
              tostring(got or replies[at].err), tostring(want.answer[place])))
          end
          local dump = replies[at + place]
          if want.changes == "none" or (want.changes == "waiting" and PARTS[place] ~= "waiting") then
            assert(dump == dumps[place], "a refusal changed " .. PARTS[place])
          end
          assert(not dump or replies[at + 4 + place] > 0, PARTS[place] .. " has no TTL")
          dumps[place] = dump
        end
      end
      done = done + #expected
    end
    local kinds = 0
    for _ in pairs(seen) do kinds = kinds + 1 end
    assert.are.equal(16, kinds) -- each answer of each script, and both of a busy read and a busy write
  end)

  it("a writer that waits keeps new readers out, and no longer than it said", function()
    assert.are.equal(OK, read(START, "r1")[1])
    assert.are.same({BUSY, 99 * SECOND, 1}, write(START + SECOND, "w", 2000))
    assert.are.same({BUSY, 2 * SECOND, 0}, read(START + SECOND, "r2"))
    assert.are.same({OK, 98 * SECOND}, read(START + 2 * SECOND, "r1")) -- it reads already
    assert.are.equal(BUSY, read(START + 3 * SECOND - 1, "r2")[1])
    assert.are.equal(OK, read(START + 3 * SECOND, "r2")[1])
  end)

  it("one that does not wait keeps nobody out", function()
    read(START, "r1")
    write(START, "w", 0)
    assert.are.equal(OK, read(START, "r2")[1])
    assert.are.equal(0, redis:call("EXISTS", key("waiting")))
  end)

  it("a flag that a clock set back would keep for an hour keeps nobody out", function()
    read(START, "r1")
    write(START, "w", 2000)
    assert.are.equal(OK, read(START - 3600 * SECOND, "r2")[1])
  end)

  it("whose lease is over makes room for the other kind, and does not live again", function()
    write(START, "w")
    assert.are.equal(OK, read(START + 100 * SECOND, "r")[1])
    assert.are.same({GONE}, run("rwlock_extend", 1, nil, "w", 100000, START + 99 * SECOND))
    assert.are.equal(OK, write(START + 200 * SECOND, "w2")[1])
    assert.are.same({GONE}, run("permit_extend", 1, nil, "r", 1, 100000, START + 199 * SECOND))
  end)

  it("a writer may read beside itself, and go on reading", function()
    write(START, "w")
    assert.are.equal(BUSY, read(START, "r")[1])
    assert.are.equal(OK, read(START, "r", 100000, "w")[1])
    assert.are.same({OK}, run("rwlock_release", 1, nil, "w", START))
    assert.are.same({BUSY, 100 * SECOND, 1}, write(START, "w2"))
    assert.are.equal(OK, read(START, "r2")[1])
  end)

  it("the writer's fence rises, after a clock set back and FLUSHALL too", function()
    local first = write(START, "w1")[3]
    run("rwlock_release", 1, nil, "w1", START)
    local second = write(START - 3600 * SECOND, "w2")[3]
    assert.is_true(second > first)
    redis:call("FLUSHALL")
    assert.is_true(write(START + SECOND, "w3")[3] > second)
  end)

  it("bad input is refused before anything is written", function()
    for _, bad in ipairs {0, 1.5, "x", 86400001, "nan", -1} do
      assert.is_truthy(read(START, "t", bad).err:find("integer", 1, true))
      assert.is_truthy(write(START, "t", 0, bad).err:find("integer", 1, true))
      assert.is_truthy(run("rwlock_extend", 1, nil, "t", bad, START).err:find("integer", 1, true))
    end
    for _, bad in ipairs {-1, 1.5, "x", 10001} do
      assert.is_truthy(write(START, "t", bad).err:find("integer", 1, true))
    end
    redis:call("SET", key("fence"), "no fence")
    assert.is_truthy(write(START, "t").err:find("holds no fence", 1, true))
    assert.are.equal(1, redis:call("DBSIZE"))
  end)

  it("100 readers take 5.2 KB, a writer and its fence 240 bytes", function()
    local function bytes(part) return redis:call("MEMORY", "USAGE", key(part), "SAMPLES", 0) end
    for i = 1, 100 do read(START, ("%032x"):format(i)) end
    write(START, "w", 10000)
    print(("bytes of 100 readers: %d, flag %d"):format(bytes("readers"), bytes("waiting")))
    assert.is_true(bytes("readers") <= 6500 and bytes("waiting") <= 100)
    write(START + 1000 * SECOND, ("%032x"):format(1))
    print(("bytes of a writer: %d, fence %d"):format(bytes("writer"), bytes("fence")))
    assert.is_true(bytes("writer") + bytes("fence") <= 320)
  end)
end)
