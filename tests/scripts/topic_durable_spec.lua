-- SPDX-License-Identifier: MIT
-- Durable topics on a real server, in virtual time, beside a model that keeps every message and every cursor.
local here = debug.getinfo(1, "S").source:match("^@(.*/)") or "./"
package.path = here .. "support/?.lua;" .. package.path
local scripts = require "scripts"
local server = require "server"
local steps_of = require "steps"

local TOPIC, LOG, READERS = "redmoon:{t}:topic", "redmoon:{t}:topic.log", "redmoon:{t}:topic.readers"
local SECOND = 1000000
local START = 1760000000 * SECOND
local OK, GONE, LOST, FULL = 1, 0, -1, -2

local function token_of(i) return ("%016x"):format(i) end

-- The model.
local Model = {}
Model.__index = Model
local function new_model() return setmetatable({epoch = "", seq = 0, log = {}, readers = {}, requests = {}}, Model) end

function Model:slowest()
  local slowest
  for _, cursor in pairs(self.readers) do
    slowest = math.min(slowest or math.huge, cursor.epoch == self.epoch and cursor.seq or 0)
  end
  return slowest
end

function Model:append(now, payload, fresh, keep, id)
  if id and self.requests[id] then return self.requests[id] end
  if self.epoch == "" then self.epoch = fresh end
  local slowest = keep.hold > 0 and self:slowest()
  self.seq = self.seq + 1
  self.time = math.max(now // 1000, self.time or 0)
  self.log[#self.log + 1] = {seq = self.seq, ms = self.time, payload = payload}
  local cut = keep.length > 0 and self.seq - keep.length or 0
  if keep.age > 0 and (self.young or 0) <= self.time - keep.age then
    for _, entry in ipairs(self.log) do
      if entry.ms > self.time - keep.age then
        cut, self.young = math.max(cut, entry.seq - 1), entry.ms
        break
      end
    end
  end
  if slowest then cut = math.min(cut, math.max(slowest, self.seq - keep.hold)) end
  while self.log[1].seq <= cut do table.remove(self.log, 1) end
  local answer = {OK, self.seq, 0, self.epoch}
  if id then self.requests[id] = answer end
  return answer
end

function Model:open(now, name, token, from)
  local cursor = self.readers[name]
  local before = cursor ~= nil
  if not cursor then
    local seq = self.seq
    if from == "start" and self.time then seq = (self.log[1] and self.log[1].seq or seq + 1) - 1 end
    cursor = {epoch = self.epoch, seq = seq}
    self.readers[name] = cursor
  end
  cursor.token, cursor.ms = token, now // 1000
  return {OK, cursor.epoch, cursor.seq, before and 1 or 0}
end

function Model:own(name, token)
  local cursor = self.readers[name]
  if not cursor then return nil, {GONE} end
  if cursor.token ~= token then return nil, {LOST} end
  return cursor
end

function Model:ack(now, name, token, epoch, seq)
  local cursor, refused = self:own(name, token)
  if refused then return refused end
  cursor.ms = now // 1000
  if epoch == self.epoch and seq > self.seq then return {OK, cursor.seq} end
  if epoch == cursor.epoch then cursor.seq = math.max(cursor.seq, seq)
  elseif epoch == self.epoch then cursor.epoch, cursor.seq = epoch, seq end
  return {OK, cursor.seq}
end

function Model:fetch(epoch, from, to, count, name, token)
  if name then
    local cursor, refused = self:own(name, token)
    if refused then return refused end
    if epoch ~= "" and epoch ~= self.epoch then from = 1
    elseif from > self.seq + 1 then from = math.min(cursor.seq, self.seq) + 1 end
  elseif epoch ~= self.epoch then
    return {OK, self.epoch, self.seq, from, self.seq}
  end
  to = to > 0 and math.min(to, self.seq) or self.seq
  local answer = {OK, self.epoch, self.seq, from, to}
  for _, entry in ipairs(self.log) do
    if entry.seq >= from and entry.seq <= to and count > 0 then
      answer[#answer + 1], answer[#answer + 2] = entry.seq, entry.payload
      count = count - 1
      if count == 0 then answer[5] = entry.seq end
    end
  end
  return answer
end

describe("a durable topic's scripts", function()
  local redis, stop
  local shas = {}
  setup(function()
    redis, stop = server.start()
    -- Then a stream is cut to the message.
    redis:call("CONFIG", "SET", "stream-node-max-entries", "1")
    for _, name in ipairs {"append", "open", "ack", "readers"} do
      shas[name] = redis:call("SCRIPT", "LOAD", scripts.expand_timed("topic_" .. name))
    end
    for _, name in ipairs {"fetch", "remove", "publish", "mark"} do
      shas[name] = redis:call("SCRIPT", "LOAD", scripts.expand("topic_" .. name))
    end
  end)
  teardown(function() stop() end)
  before_each(function() redis:call("FLUSHALL") end)

  local function run_all(name, keys, args)
    local all = {"EVALSHA", shas[name], #keys}
    table.move(keys, 1, #keys, 4, all)
    table.move(args, 1, #args, #all + 1, all)
    return redis:call(table.unpack(all))
  end
  local function run(name, keys, ...) return run_all(name, keys, {...}) end
  local KEEP = {length = 1000, age = 0, hold = 0}
  local function append(now, payload, fresh, keep, id)
    local keys = {TOPIC, LOG, READERS, id and TOPIC .. "+req." .. id or nil}
    return run_all("append", keys, {payload, fresh, keep.length, keep.age, keep.hold, now})
  end
  local function open(now, name, token, from) return run_all("open", {TOPIC, LOG, READERS}, {name, token, from, now}) end
  local function ack(now, name, token, epoch, seq)
    return run_all("ack", {TOPIC, READERS}, {name, token, epoch, seq, now})
  end
  local function fetch(epoch, from, to, count, name, token)
    if name then return run_all("fetch", {TOPIC, LOG, READERS}, {epoch, from, to, count, name, token}) end
    return run_all("fetch", {TOPIC, LOG}, {epoch, from, to, count})
  end
  local function dumps()
    return {redis:call("DUMP", TOPIC), redis:call("DUMP", LOG), redis:call("DUMP", READERS)}
  end

  local seed = math.tointeger(os.getenv("SEED") or 20261126)
  local steps = steps_of(20000)
  print("SEED=" .. seed .. " STEPS=" .. steps)

  local function check_keys(model, keep)
    assert.are.equal(-1, redis:call("PTTL", TOPIC))
    local ttl = redis:call("PTTL", LOG)
    if keep.age > 0 and keep.hold == 0 then
      assert.is_true(ttl > keep.age - 60000 and ttl <= keep.age)
    else
      assert.are.equal(-1, ttl)
    end
    assert.are.equal(#model.log, redis:call("XLEN", LOG))
  end

  it("do as the model does over random steps", function()
    math.randomseed(seed)
    local now, model = START, new_model()
    local names, tokens = {"a", "b", "c"}, {}
    local old_epoch = token_of(1)
    for step = 1, steps do
      now = now + math.random(0, 40) * SECOND + math.random(0, 999999)
      if math.random(500) == 1 then now = now - 3600 * SECOND end -- the server's clock is set back
      local what = math.random(1000)
      local name = names[math.random(#names)]
      local token = math.random(20) == 1 and token_of(7) or tokens[name] or token_of(8)
      local epoch = math.random(20) == 1 and old_epoch or model.epoch
      if what <= 500 then
        local keep = {length = math.random(3) == 1 and 0 or math.random(1, 40), age = 0, hold = 0}
        if keep.length == 0 or math.random(3) == 1 then keep.age = math.random(60, 1000) * 1000 end
        if math.random(3) == 1 then keep.hold = math.random(1, 60) end
        local id = math.random(8) == 1 and "r" .. math.random(200) or nil
        local payload = ("p"):rep(math.random(0, 20)) .. step
        local known = id and model.requests[id]
        local expected = model:append(now, payload, token_of(step), keep, id)
        assert.are.same(expected, append(now, payload, token_of(step), keep, id))
        if not known then check_keys(model, keep) end
      elseif what <= 700 then
        local from = math.random(4) == 1 and math.random(1, model.seq + 3) or math.max(1, model.seq - math.random(0, 70))
        local to = math.random(2) == 1 and 0 or from + math.random(0, 30)
        local count = math.random(2) == 1 and math.random(1, 35) or 1000
        local before = dumps()
        assert.are.same(model:fetch(epoch, from, to, count), fetch(epoch, from, to, count))
        assert.are.same(model:fetch(epoch, from, 0, count, name, token), fetch(epoch, from, 0, count, name, token))
        assert.are.same(before, dumps())
      elseif what <= 770 then
        tokens[name] = token_of(step)
        local from = math.random(2) == 1 and "start" or "end"
        assert.are.same(model:open(now, name, tokens[name], from), open(now, name, tokens[name], from))
        assert.are.equal(-1, redis:call("PTTL", READERS))
      elseif what <= 960 then
        local seq = math.max(0, model.seq - math.random(-2, 60))
        assert.are.same(model:ack(now, name, token, epoch, seq), ack(now, name, token, epoch, seq))
      elseif what <= 985 then
        local expected, listed = {}, run("readers", {TOPIC, READERS}, now)
        for other, cursor in pairs(model.readers) do
          expected[other] = {cursor.epoch == model.epoch and cursor.seq or 0, math.max(now // 1000 - cursor.ms, 0)}
        end
        assert.are.same({OK, model.seq}, {listed[1], listed[2]})
        local got = {}
        for i = 3, #listed, 3 do got[listed[i]] = {listed[i + 1], listed[i + 2]} end
        assert.are.same(expected, got)
      elseif what <= 994 then
        assert.are.same({model.readers[name] and OK or GONE}, run("remove", {READERS}, name))
        model.readers[name] = nil
      elseif what <= 996 then -- only the numbers are lost
        redis:call("DEL", TOPIC)
        if model.epoch ~= "" then old_epoch = model.epoch end
        model.epoch, model.seq, model.time, model.young = "", 0, nil, nil
        model.log = {}
      elseif what == 997 then
        redis:call("FLUSHALL")
        if model.epoch ~= "" then old_epoch = model.epoch end
        model = new_model()
      end
    end
  end)

  it("let a plain topic become durable, and not the other way round", function()
    assert.are.same({1, 1, 0, token_of(1)}, run("publish", {TOPIC}, "a", token_of(1)))
    assert.is_true(redis:call("PTTL", TOPIC) > 0)
    assert.are.same({1, 2, 0, token_of(1)}, append(START, "b", token_of(2), KEEP))
    assert.are.equal(-1, redis:call("PTTL", TOPIC))
    assert.are.same({1, token_of(1), 2, 1, 2, 2, "b"}, fetch(token_of(1), 1, 0, 10))
    local before = dumps()
    assert.is_truthy(run("publish", {TOPIC}, "c", token_of(1)).err:find("publish with durable = true", 1, true))
    assert.are.same(before, dumps())
    assert.are.same({1, 2, 0, token_of(1)}, run("mark", {TOPIC}, token_of(1)))
  end)

  it("name a message by its number and its time, exactly", function()
    redis:call("HSET", TOPIC, "epoch", token_of(1), "seq", "9007199254740989", "time", "1")
    append(START + 123456, "x", token_of(1), KEEP)
    assert.are.equal("9007199254740990-1760000000123", redis:call("XRANGE", LOG, "-", "+")[1][1])
    assert.are.same({1, token_of(1), 9007199254740990, 9007199254740990, 9007199254740990, 9007199254740990, "x"},
      fetch(token_of(1), 9007199254740990, 0, 1))
    append(START, "y", token_of(1), KEEP)
    local before = dumps()
    assert.is_truthy(append(START, "z", token_of(1), KEEP).err:find("could be numbered on", 1, true))
    assert.are.same(before, dumps())
  end)

  it("let go of a message when it has the age, and not a millisecond before", function()
    local keep = {length = 0, age = 1000, hold = 0}
    append(START, "a", token_of(1), keep)
    append(START + 999999, "b", token_of(1), keep)
    assert.are.equal(2, redis:call("XLEN", LOG))
    append(START + 1000000, "c", token_of(1), keep)
    assert.are.same({1, token_of(1), 3, 1, 3, 2, "b", 3, "c"}, fetch(token_of(1), 1, 0, 10))
  end)

  it("give about 256 KiB at most, or one message", function()
    local big = ("x"):rep(300000)
    for _ = 1, 3 do append(START, big, token_of(1), KEEP) end
    for _ = 1, 30 do append(START, ("y"):rep(20000), token_of(1), KEEP) end
    local first = fetch(token_of(1), 1, 0, 1000)
    assert.are.equal(33, first[3])
    -- Ten are read at a time.
    assert.are.equal(10, first[5])
    assert.are.equal(5 + 2 * 10, #first)
    local second = fetch(token_of(1), 11, 0, 1000)
    assert.are.equal(30, second[5])
    assert.are.equal(5 + 2 * 20, #second)
  end)

  it("refuse the thousand-and-first reader, and write nothing", function()
    for i = 1, 1000 do assert.are.equal(OK, open(START, "r" .. i, token_of(i), "end")[1]) end
    local before = dumps()
    assert.are.same({FULL}, open(START, "one more", token_of(1), "end"))
    assert.are.same(before, dumps())
    assert.are.equal(OK, open(START, "r7", token_of(9), "end")[1])
    local listed = run("readers", {TOPIC, READERS}, START)
    assert.are.equal(2 + 3 * 1000, #listed, listed.err)
    for i = 1, 1000 do run("remove", {READERS}, "r" .. i) end
    assert.are.equal(0, redis:call("EXISTS", READERS))
  end)

  it("refuse bad input, and what is no topic, before anything is written", function()
    append(START, "a", token_of(1), KEEP)
    open(START, "r", token_of(1), "end")
    local before = dumps()
    local function refused(answer, what) assert.is_truthy(type(answer) == "table" and answer.err, what) end
    for i, keep in ipairs {{0, 0, 1}, {-1, 1, 0}, {1.5, 0, 0}, {1, 31622400001, 0}, {1000000001, 0, 0}, {1, 0, -1},
      {"x", 1, 0}} do
      refused(append(START, "p", token_of(1), {length = keep[1], age = keep[2], hold = keep[3]}), i)
    end
    for _, bad in ipairs {"", "0123456789ABCDEF", "0123456789abcdef0"} do
      refused(append(START, "p", bad, KEEP))
      refused(open(START, "r", bad, "end"))
    end
    refused(open(START, "", token_of(1), "end"))
    refused(open(START, ("n"):rep(513), token_of(1), "end"))
    refused(open(START, "r", token_of(1), "middle"))
    for _, bad in ipairs {-1, "x", 1.5, "9007199254740993"} do
      refused(ack(START, "r", token_of(1), token_of(1), bad), bad)
    end
    refused(ack(START, "r", token_of(1), "short", 1))
    for _, bad in ipairs {{0, 0, 1}, {1, -1, 1}, {1, 0, 0}, {1, 0, 1001}, {1.5, 0, 1}, {"x", 0, 1}} do
      refused(fetch(token_of(1), table.unpack(bad)))
    end
    assert.are.same(before, dumps())
    for _, key in ipairs {TOPIC, LOG, READERS} do
      redis:call("FLUSHALL")
      redis:call("SET", key, "x")
      refused(append(START, "p", token_of(1), {length = 10, age = 0, hold = 10}), key)
      if key ~= LOG then refused(open(START, "r", token_of(1), "end"), key) end
      assert.are.same({"x", 1}, {redis:call("GET", key), redis:call("DBSIZE")})
    end
  end)
end)
