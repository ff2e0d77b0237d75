-- SPDX-License-Identifier: MIT
-- The scripts of the stream queue on a real server beside a model.  Idle times are the server's own, so the lease is an
-- hour, in which nothing ends by itself, and entries are aged by XCLAIM.
local here = debug.getinfo(1, "S").source:match("^@(.*/)") or "./"
package.path = here .. "support/?.lua;" .. package.path
local scripts = require "scripts"
local server = require "server"
local steps_of = require "steps"

local OK, DEAD, GONE, LOST = 1, 2, 0, -1
local KEY, DEADS, RELEASED = "redmoon:{s}:stream", "redmoon:{s}:stream.dead", "redmoon:{s}:stream.released"
local GROUP, NOBODY, LEASE, MOST = "workers", "nobody", 3600000, 4

local function before(a, b) -- ids
  local a_ms, a_seq = a:match("^(%d+)-(%d+)$")
  local b_ms, b_seq = b:match("^(%d+)-(%d+)$")
  a_ms, b_ms = math.tointeger(a_ms), math.tointeger(b_ms)
  if a_ms ~= b_ms then return a_ms < b_ms end
  return math.tointeger(a_seq) < math.tointeger(b_seq)
end

-- The model: entries in order of their ids; who has each, in which epoch, how often it was given back, and whether its
-- lease is over; the dead.
local Model = {}
Model.__index = Model

local function new_model() return setmetatable({entries = {}, dead = {}, acked = 0, pushed = 0}, Model) end

function Model:find(id)
  for i, entry in ipairs(self.entries) do
    if entry.id == id then return entry, i end
  end
end

function Model:push(id, payload)
  self.entries[#self.entries + 1] = {id = id, payload = payload, epoch = 0, released = 0}
  self.pushed = self.pushed + 1
end

function Model:read(consumer, count)
  local given = {}
  for _, entry in ipairs(self.entries) do
    if entry.epoch == 0 and #given < count then
      entry.owner, entry.epoch, entry.over = consumer, 1, false
      given[#given + 1] = entry.id .. "=" .. entry.payload
    end
  end
  return given
end

function Model:bury(entry, attempts, why)
  local _, at = self:find(entry.id)
  table.remove(self.entries, at)
  self.dead[#self.dead + 1] =
    {id = entry.id, attempts = attempts, epoch = entry.epoch, payload = entry.payload, why = why}
end

function Model:pending()
  local list = {}
  for _, entry in ipairs(self.entries) do
    if entry.owner then list[#list + 1] = entry end
  end
  return list
end

function Model:claim(consumer, count, place)
  local answer, left, list = {OK, "0-0"}, count, self:pending()
  for i, entry in ipairs(list) do
    if not before(entry.id, place) and entry.over then
      entry.owner, entry.over, entry.epoch = consumer, false, entry.epoch + 1
      local attempt = entry.epoch - entry.released
      if attempt > MOST then
        self:bury(entry, attempt - 1, "its lease was over too often")
      else
        for _, value in ipairs {entry.id, entry.epoch, attempt, entry.payload} do answer[#answer + 1] = value end
        left = left - 1
        if left == 0 then
          answer[2] = list[i + 1] and list[i + 1].id or "0-0"
          break
        end
      end
    end
  end
  return answer
end

function Model:lease(consumer, id, epoch)
  local entry, at = self:find(id)
  if not entry or not entry.owner then return {GONE} end
  if entry.owner ~= consumer or entry.epoch ~= epoch then return {LOST} end
  return nil, entry, at
end

function Model:ack(consumer, id, epoch)
  local refused, _, at = self:lease(consumer, id, epoch)
  if refused then return refused end
  table.remove(self.entries, at)
  self.acked = self.acked + 1
  return {OK}
end

function Model:ack_next(consumer, id, epoch)
  local answer = self:ack(consumer, id, epoch)
  local given = answer[1] == OK and self:read(consumer, 1)[1]
  if not given then return answer end
  return {OK, given:match("^[^=]*"), 1, 1, given:match("=(.*)$")}
end

function Model:nack(consumer, id, epoch, delay, fatal, why)
  local refused, entry = self:lease(consumer, id, epoch)
  if refused then return refused end
  local attempt = entry.epoch - entry.released
  if fatal or attempt >= MOST then
    self:bury(entry, attempt, why)
    return {DEAD}
  end
  entry.owner, entry.over = NOBODY, delay == 0
  return {OK}
end

function Model:release(consumer, id, epoch)
  local refused, entry = self:lease(consumer, id, epoch)
  if refused then return refused end
  entry.owner, entry.over, entry.released = NOBODY, true, entry.released + 1
  return {OK}
end

function Model:extend(consumer, id, epoch)
  local refused, entry = self:lease(consumer, id, epoch)
  if refused then return refused end
  entry.over = false
  return {OK, LEASE}
end

function Model:redrive(count)
  local moved = {}
  while #moved < count and #self.dead > 0 do moved[#moved + 1] = table.remove(self.dead, 1) end
  return moved
end

function Model:stats()
  local ready, back, leased = 0, 0, 0
  for _, entry in ipairs(self.entries) do
    if not entry.owner then ready = ready + 1
    elseif entry.owner == NOBODY then back = back + 1
    else leased = leased + 1 end
  end
  return {OK, ready, back, leased, #self.dead}
end

describe("a stream queue", function()
  local redis, stop, sha
  setup(function()
    redis, stop = server.start()
    sha = {}
    for _, name in ipairs(scripts.names()) do
      if name:find("^stream_") then sha[name:sub(8)] = redis:call("SCRIPT", "LOAD", scripts.expand(name)) end
    end
  end)
  teardown(function() stop() end)
  before_each(function() redis:call("FLUSHALL") end)

  local function push(...) return redis:call("EVALSHA", sha.push, 1, KEY, ...) end
  local function read(consumer, count)
    local reply = redis:call("XREADGROUP", "GROUP", GROUP, consumer, "COUNT", count or 1, "STREAMS", KEY, ">")
    local given = {}
    for _, entry in ipairs(reply and (reply.err and error(reply.err) or reply[1][2]) or {}) do
      given[#given + 1] = entry[1] .. "=" .. entry[2][2]
    end
    return given
  end
  local function claim(consumer, count, place, lease, silence)
    return redis:call("EVALSHA", sha.claim, 3, KEY, DEADS, RELEASED, consumer, lease or LEASE, count or 1, MOST,
      place or "0-0", silence or -1)
  end
  local function ack(consumer, id, epoch, next)
    return redis:call("EVALSHA", sha.ack, 2, KEY, RELEASED, consumer, id, epoch, next or 0)
  end
  local function nack(consumer, id, epoch, delay, fatal, why)
    return redis:call("EVALSHA", sha.nack, 3, KEY, DEADS, RELEASED, consumer, id, epoch, MOST, LEASE, delay or 0,
      fatal and 1 or 0, why or "")
  end
  local function release(consumer, id, epoch)
    return redis:call("EVALSHA", sha.release, 2, KEY, RELEASED, consumer, id, epoch)
  end
  local function extend(consumer, id, epoch, ms)
    return redis:call("EVALSHA", sha.extend, 1, KEY, consumer, id, epoch, LEASE, ms or LEASE)
  end
  local function stats() return redis:call("EVALSHA", sha.stats, 2, KEY, DEADS) end
  local function dead(place, count) return redis:call("EVALSHA", sha.dead, 1, DEADS, place or "0-0", count or 500) end
  local function age(id, owner, idle)
    assert(#redis:call("XCLAIM", KEY, GROUP, owner, 0, id, "IDLE", idle or LEASE, "JUSTID") == 1)
  end

  local seed = math.tointeger(os.getenv("SEED") or 20261125)
  local steps = steps_of(20000)
  print("SEED=" .. seed .. " STEPS=" .. steps)

  local function same_answer(want, got, what)
    for place = 1, math.max(#want, got.err and 1 or #got) do
      if got[place] ~= want[place] then
        error(("%s: place %d is %s, the model says %s"):format(what, place, tostring(got[place] or got.err),
          tostring(want[place])))
      end
    end
  end

  -- An owner that may be the right one or a former one.
  local function somebody(model, known)
    local list = model:pending()
    if #list > 0 and math.random(4) > 1 then
      local entry = list[math.random(#list)]
      return entry.owner ~= NOBODY and entry.owner or "c1", entry.id, entry.epoch
    end
    local old = known[math.random(#known)]
    return old[1], old[2], old[3]
  end

  local kinds = {}

  function kinds.push(model)
    local payloads = {}
    for i = 1, math.random(3) do payloads[i] = "p" .. math.random(1 << 40) end
    local answer = push(table.unpack(payloads))
    assert(answer[1] == OK and #answer == #payloads + 1)
    for i, payload in ipairs(payloads) do model:push(answer[i + 1], payload) end
  end

  function kinds.read(model, known)
    local consumer, count = "c" .. math.random(3), math.random(3)
    local want, got = model:read(consumer, count), read(consumer, count)
    assert.are.same(want, got)
    for _, text in ipairs(got) do known[#known + 1] = {consumer, text:match("^[^=]*"), 1} end
  end

  function kinds.claim(model, known)
    local consumer, count, place = "c" .. math.random(3), math.random(3), "0-0"
    if math.random(3) == 1 then place = known[math.random(#known)][2] end
    local want = model:claim(consumer, count, place)
    local got = claim(consumer, count, place)
    same_answer(want, got, "claim")
    for i = 3, #got, 4 do known[#known + 1] = {consumer, got[i], got[i + 1]} end
  end

  function kinds.age(model)
    local list = model:pending()
    for _ = 1, math.min(2, #list) do
      local entry = list[math.random(#list)]
      age(entry.id, entry.owner)
      entry.over = true
    end
  end

  -- What one who may have lost the lease asks for; a refusal leaves everything as it was.
  local function by_owner(ask, tell)
    return function(model, known)
      local consumer, id, epoch = somebody(model, known)
      local dumps = {redis:call("DUMP", KEY), redis:call("DUMP", DEADS), redis:call("DUMP", RELEASED)}
      local want, got = tell(model, consumer, id, epoch), ask(consumer, id, epoch)
      same_answer(want, got, "the owner's")
      if want[1] > 0 then return 1, 0 end
      assert(dumps[1] == redis:call("DUMP", KEY) and dumps[2] == redis:call("DUMP", DEADS)
        and dumps[3] == redis:call("DUMP", RELEASED), "a refusal changed something")
      return 0, 1
    end
  end

  kinds.ack = by_owner(ack, function(m, c, i, e) return m:ack(c, i, e) end)
  kinds.ack_next = by_owner(function(c, i, e) return ack(c, i, e, 1) end,
    function(m, c, i, e) return m:ack_next(c, i, e) end)
  kinds.release = by_owner(release, function(m, c, i, e) return m:release(c, i, e) end)
  kinds.extend = by_owner(extend, function(m, c, i, e) return m:extend(c, i, e) end)
  kinds.nack = by_owner(function(c, i, e) return nack(c, i, e, 0, false, "why") end,
    function(m, c, i, e) return m:nack(c, i, e, 0, false, "why") end)
  kinds.nack_later = by_owner(function(c, i, e) return nack(c, i, e, 60000, false, "why") end,
    function(m, c, i, e) return m:nack(c, i, e, 60000, false, "why") end)
  kinds.nack_fatal = by_owner(function(c, i, e) return nack(c, i, e, 0, true, "fatal") end,
    function(m, c, i, e) return m:nack(c, i, e, 0, true, "fatal") end)

  function kinds.redrive(model)
    local count = math.random(3)
    local moved = model:redrive(count)
    same_answer({OK, #moved}, redis:call("EVALSHA", sha.redrive, 2, KEY, DEADS, count), "redrive")
    if #moved == 0 then return end
    local fresh = redis:call("XREVRANGE", KEY, "+", "-", "COUNT", #moved)
    for i, entry in ipairs(moved) do
      local got = fresh[#moved + 1 - i]
      assert(got[2][2] == entry.payload)
      model:push(got[1], entry.payload)
      model.pushed = model.pushed - 1
    end
  end

  function kinds.look(model)
    same_answer(model:stats(), stats(), "stats")
    local got = dead()
    assert(got[2] == #model.dead)
    for i, entry in ipairs(model.dead) do
      local at = 4 + (i - 1) * 6
      same_answer({entry.id, entry.attempts, entry.epoch, entry.payload, entry.why},
        {got[at], got[at + 2], got[at + 3], got[at + 4], got[at + 5]}, "dead")
    end
    assert.are.equal(#model:pending(), redis:call("XPENDING", KEY, GROUP)[1])
  end

  it("answers as the model over random steps; a refusal changes nothing; nothing is lost", function()
    math.randomseed(seed)
    local names, done, granted, refused = {}, 0, 0, 0
    for name in pairs(kinds) do names[#names + 1] = name end
    for _, name in ipairs {"push", "push", "push", "read", "read", "claim", "claim", "ack", "ack", "age"} do
      names[#names + 1] = name
    end
    table.sort(names)
    while done < steps do
      redis:call("FLUSHALL")
      local model, known = new_model(), {{"c1", "1-1", 1}}
      assert.are.same({OK, "0-0"}, claim("c1")) -- makes the group
      for _ = 1, 400 do
        local name = names[math.random(#names)]
        local fine, more, less = pcall(kinds[name], model, known)
        if not fine then error(("after %d steps: %s: %s"):format(done, name, tostring(more))) end
        granted, refused, done = granted + (more or 0), refused + (less or 0), done + 1
      end
      kinds.look(model)
      assert(model.pushed == model.acked + #model.entries + #model.dead)
      local back = 0
      for _, entry in ipairs(model.entries) do back = back + (entry.released > 0 and 1 or 0) end
      assert.are.equal(back, redis:call("HLEN", RELEASED))
    end
    print("granted " .. granted .. ", refused " .. refused)
    assert.is_true(granted > steps // 10 and refused > steps // 20)
  end)

  it("XACK would take what another has; the script does not", function()
    claim("c1")
    push("a")
    local id = read("c1")[1]:match("^[^=]*")
    age(id, "c1")
    assert.are.same({OK, "0-0", id, 2, 2, "a"}, claim("c2"))
    assert.are.same({LOST}, ack("c1", id, 1))
    assert.are.same({LOST}, ack("c2", id, 1))
    assert.are.same({LOST}, ack("c1", id, 2))
    assert.are.same({OK}, ack("c2", id, 2))
    assert.are.same({GONE}, ack("c2", id, 2))
    assert.are.equal(0, redis:call("XLEN", KEY))
  end)

  it("a lease is over after its time, and not before; the time of nobody's is what was asked for", function()
    claim("c1")
    push("a")
    local id = read("c1")[1]:match("^[^=]*")
    age(id, "c1", LEASE - 600000)
    assert.are.same({OK, "0-0"}, claim("c2"))
    local left = extend("c1", id, 1, 60000)[2] -- never shortens
    assert.is_true(left <= 600000 and left > 590000)
    assert.are.same({OK, LEASE}, extend("c1", id, 1))
    age(id, "c1", LEASE)
    assert.are.same({OK, LEASE}, extend("c1", id, 1)) -- nobody took it
    assert.are.same({OK}, nack("c1", id, 1, 1000))
    local idle = redis:call("XPENDING", KEY, GROUP, "-", "+", 1)[1][3]
    assert.is_true(idle >= LEASE - 1000 and idle < LEASE)
    assert.are.same({OK, "0-0"}, claim("c2", 1, "0-0", 86400000))
    age(id, NOBODY, LEASE)
    assert.are.same({OK, "0-0", id, 2, 2, "a"}, claim("c2"))
    assert.are.same({OK}, nack("c2", id, 2))
    assert.are.same({OK, "0-0", id, 3, 3, "a"}, claim("c2", 1, "0-0", 86400000)) -- at once, whatever the lease
  end)

  it("a run that was given back does not count, and its epoch never comes again", function()
    claim("c1")
    push("a")
    local id = read("c1")[1]:match("^[^=]*")
    assert.are.same({OK}, release("c1", id, 1))
    for epoch = 2, 3 * MOST do
      assert.are.same({OK, "0-0", id, epoch, 1, "a"}, claim("c1"))
      assert.are.same({LOST}, release("c1", id, epoch - 1))
      assert.are.same({OK}, release("c1", id, epoch))
      assert.are.same({LOST}, ack("c1", id, epoch))
    end
    assert.are.same({OK, "0-0", id, 3 * MOST + 1, 1, "a"}, claim("c1"))
    assert.are.same({OK}, ack("c1", id, 3 * MOST + 1))
    assert.are.equal(0, redis:call("EXISTS", RELEASED))
  end)

  it("what crashed or failed max_attempts times is dead, with its reason", function()
    claim("c1")
    local _, crash, fail = table.unpack(push("crash", "fail"))
    read("c1", 2)
    for epoch = 2, MOST do
      age(crash, "c1")
      assert.are.same({OK, fail, crash, epoch, epoch, "crash"}, claim("c1"))
      assert.are.same({OK}, nack("c1", fail, epoch - 1, 0, false, "no"))
      assert.are.same({OK, "0-0", fail, epoch, epoch, "fail"}, claim("c1"))
    end
    age(crash, "c1")
    assert.are.same({OK, "0-0"}, claim("c1"))
    assert.are.same({DEAD}, nack("c1", fail, MOST, 0, false, ("w"):rep(2000)))
    local list = dead()
    assert.are.same({OK, 2}, {list[1], list[2]})
    local first, second = {table.unpack(list, 4, 9)}, {table.unpack(list, 10, 15)}
    assert.is_true(math.type(table.remove(first, 2)) == "integer" and table.remove(second, 2) > 1760000000000)
    assert.are.same({crash, MOST, MOST + 1, "crash", "its lease was over too often"}, first)
    assert.are.same({fail, MOST, MOST, "fail", ("w"):rep(1000)}, second)
    assert.are.same({OK, 2, list[3]}, dead(list[3]))
    assert.are.same({OK, 0, 0, 0, 2}, stats())
    assert.are.same({OK, 2}, redis:call("EVALSHA", sha.redrive, 2, KEY, DEADS, 500))
    assert.are.same({OK, 2, 0, 0, 0}, stats())
    assert.are.equal("crash", read("c1")[1]:match("=(.*)$"))
  end)

  it("looks at all leases in turns, of a thousand or so", function()
    claim("c1")
    for _ = 1, 10 do push(table.unpack(setmetatable({}, {__index = function() return "p" end}), 1, 250)) end
    read("c1", 2500)
    local last = redis:call("XREVRANGE", KEY, "+", "-", "COUNT", 1)[1][1]
    age(last, "c1")
    local got, turns = {OK, "0-0"}, 0
    repeat
      got, turns = claim("c2", 1, got[2]), turns + 1
    until got[2] == "0-0" or got[3]
    assert.are.same({last, 2, 2}, {got[3], got[4], got[5]})
    assert.are.equal(3, turns)
    assert.is_nil(claim("c2", 500, "0-0")[3])
  end)

  it("forgets consumers that are gone, and none that has something", function()
    claim("c1")
    push("a")
    read("c1")
    for i = 1, 5 do redis:call("XGROUP", "CREATECONSUMER", KEY, GROUP, "gone" .. i) end
    claim("c2", 1, "0-0", LEASE, 600000) -- they were heard of just now
    assert.is_true(#redis:call("XINFO", "CONSUMERS", KEY, GROUP) >= 6)
    claim("c2", 1, "0-0", LEASE, 0)
    local left = {}
    for _, info in ipairs(redis:call("XINFO", "CONSUMERS", KEY, GROUP)) do left[info[2]] = info[4] end
    assert.are.equal(1, left.c1)
    assert.is_nil(left.gone1 or left.gone5)
  end)

  it("counts a request once", function()
    local function once(id, ...) return redis:call("EVALSHA", sha.push, 2, KEY, "redmoon:{s}:stream+req." .. id, ...) end
    local first = once("r", "a", "b")
    assert.are.same(first, once("r", "a", "b"))
    assert.are.equal(2, redis:call("XLEN", KEY))
    assert.are_not.same(first, once("s", "a", "b"))
    local ttl = redis:call("PTTL", "redmoon:{s}:stream+req.r")
    assert.is_true(ttl > 590000 and ttl <= 600000)
  end)

  it("passes over leases whose entries a stranger deleted", function()
    claim("c1")
    local pushed = push("a", "b", "c")
    read("c1", 3)
    redis:call("XDEL", KEY, pushed[3])
    age(pushed[2], "c1")
    age(pushed[4], "c1")
    local got = claim("c2", 3)
    assert.are.same({pushed[2], pushed[4]}, {got[3], got[7]})
    assert.is_nil(got[11])
    redis:call("XDEL", KEY, pushed[2])
    assert.are.same({OK}, ack("c2", pushed[2], 2))
  end)

  it("hands out what producers of another kind have added", function()
    claim("c1")
    local id = redis:call("XADD", KEY, "*", "other", "x", "more", "y")
    read("c1")
    age(id, "c1")
    assert.are.same({OK, "0-0", id, 2, 2, "x"}, claim("c1"))
  end)

  it("without a group there is nothing, and a foreign key is an error that changes nothing", function()
    for _, answer in ipairs {ack("c", "1-1", 1), nack("c", "1-1", 1), release("c", "1-1", 1), extend("c", "1-1", 1)} do
      assert.are.same({GONE}, answer)
    end
    assert.are.same({OK, 0, 0, 0, 0}, stats())
    assert.are.same({OK, 0, "0-0"}, dead())
    assert.are.equal(0, redis:call("DBSIZE"))
    claim("c1")
    local pushed = push("a")
    read("c1")
    redis:call("SET", DEADS, "x")
    age(pushed[2], "c1")
    local dump = redis:call("DUMP", KEY)
    assert.is_truthy(claim("c2").err:find("WRONGTYPE", 1, true))
    assert.is_truthy(nack("c1", pushed[2], 1, 0, true).err:find("WRONGTYPE", 1, true))
    redis:call("DEL", DEADS)
    redis:call("SET", RELEASED, "x")
    for _, answer in ipairs {claim("c2"), nack("c1", pushed[2], 1), release("c1", pushed[2], 1),
      ack("c1", pushed[2], 1)} do
      assert.is_truthy(answer.err:find("WRONGTYPE", 1, true))
    end
    assert.are.equal(dump, redis:call("DUMP", KEY))
    redis:call("SET", KEY, "x")
    for _, answer in ipairs {claim("c"), ack("c", "1-1", 1), nack("c", "1-1", 1), release("c", "1-1", 1),
      extend("c", "1-1", 1), stats(), push("a")} do
      assert.is_truthy(answer.err:find("WRONGTYPE", 1, true))
    end
    assert.are.equal("x", redis:call("GET", KEY))
  end)

  it("bad input is refused before anything is written", function()
    local function refused(answer) assert.is_truthy(answer.err and answer.err:find("ERR stream_", 1, true), answer[1]) end
    refused(push())
    refused(push(table.unpack(setmetatable({}, {__index = function() return "p" end}), 1, 501)))
    for _, bad in ipairs {0, 501, 1.5, "x"} do
      refused(claim("c", bad))
      refused(dead("0-0", bad))
      refused(redis:call("EVALSHA", sha.redrive, 2, KEY, DEADS, bad))
    end
    for _, bad in ipairs {0, 86400001, "x", 0.5} do refused(claim("c", 1, "0-0", bad)) end
    for _, bad in ipairs {"", "0", "-", "x-1", "1-1 "} do
      refused(claim("c", 1, bad))
      refused(dead(bad))
    end
    for _, bad in ipairs {0, 1.5, "x", -1} do
      refused(ack("c", "1-1", bad))
      refused(nack("c", "1-1", bad))
      refused(release("c", "1-1", bad))
      refused(extend("c", "1-1", bad))
    end
    for _, bad in ipairs {-1, LEASE + 1, "x"} do refused(nack("c", "1-1", 1, bad)) end
    for _, bad in ipairs {0, LEASE + 1, "x"} do refused(extend("c", "1-1", 1, bad)) end
    assert.are.equal(0, redis:call("DBSIZE"))
  end)

  it("an entry of 100 bytes takes 130 bytes, and some 150 more while it is leased", function()
    local function used() return math.tointeger(redis:call("INFO", "memory"):match("used_memory:(%d+)")) end
    claim("c1")
    local payload, empty = ("x"):rep(100), used()
    for _ = 1, 20000 do redis:call("XADD", KEY, "*", "p", payload) end
    local full = used()
    for _ = 1, 40 do read("c1", 500) end
    local leased = used()
    print(("bytes of an entry: %.1f, leased %.1f more"):format((full - empty) / 20000, (leased - full) / 20000))
    assert.is_true((full - empty) / 20000 < 160 and (leased - full) / 20000 < 250)
  end)
end)
