-- SPDX-License-Identifier: MIT
-- The scripts of redlocks: against a real server, and in a model of several servers that lose their memory.
local here = debug.getinfo(1, "S").source:match("^@(.*/)") or "./"
package.path = here .. "support/?.lua;" .. package.path
local scripts = require "scripts"
local server = require "server"
local fake = require "fake_redis"
local steps_of = require "steps"

local LOCK, FENCE, VOID = "redmoon:{n}:redlock", "redmoon:{n}:redlock.fence", "redmoon:{n}:redlock+void.i"
local OK, HELD, GONE, TWICE = 1, 0, -1, -2

describe("redlock scripts on a server", function()
  local redis, stop
  setup(function() redis, stop = server.start() end)
  teardown(function() stop() end)
  before_each(function() redis:call("FLUSHALL") end)

  local function take(token, lease, fence, node, tells)
    return redis:call("EVAL", scripts.expand("redlock_take"), 3, LOCK, FENCE, VOID, token, lease or 10000, fence or 0,
      node or "1", tells or "0")
  end
  local function release(token, bars)
    return redis:call("EVAL", scripts.expand("redlock_release"), 2, LOCK, VOID, token, bars or 0)
  end
  local function dumps()
    return {redis:call("DUMP", LOCK), redis:call("DUMP", FENCE), redis:call("DUMP", VOID)}
  end

  it("the first to ask gets the vote, with a fence; every key has a lifetime", function()
    local time = redis:call("TIME")
    local answer = take("a\0b", 5000)
    assert.are.same({OK, answer[2], 5000, 0}, answer)
    assert.is_true(answer[2] >= tonumber(time[1]) * 1000000 + tonumber(time[2]))
    assert.are.same({"a\0b", tostring(answer[2]), "1"}, redis:call("HMGET", LOCK, "owner", "fence", "node"))
    assert.are.equal(tostring(answer[2]), redis:call("GET", FENCE))
    local left, fence_left = redis:call("PTTL", LOCK), redis:call("PTTL", FENCE)
    assert.is_true(left > 0 and left <= 5000)
    assert.is_true(fence_left > 2500000000 and fence_left <= 2592000000)
  end)

  it("another gets no vote, and changes nothing", function()
    local first = take("a")
    local before = dumps()
    local second = take("b", 60000)
    assert.are.same({HELD, first[2]}, {second[1], second[2]})
    assert.is_true(second[3] > 0 and second[3] <= 10000)
    assert.are.equal(HELD, take("b", 60000, 8000000000000000)[1])
    assert.are.same(before, dumps())
    assert.is_true(redis:call("PTTL", LOCK) <= 10000)
  end)

  it("a question that is repeated changes nothing", function()
    local first = take("a", 5000)
    local before = dumps()
    local again = take("a", 60000)
    assert.are.same({OK, first[2]}, {again[1], again[2]})
    assert.is_true(again[3] <= 5000)
    assert.are.same(before, dumps())
    assert.is_true(redis:call("PTTL", LOCK) <= 5000)
  end)

  it("the fence that was agreed on is the last one from there on, and prolongs the lease, never shortens it", function()
    take("a", 5000)
    local agreed = 8000000000000000
    assert.are.same({OK, agreed, 60000, 0}, take("a", 60000, agreed))
    assert.is_true(redis:call("PTTL", LOCK) > 50000)
    assert.are.equal(tostring(agreed), redis:call("GET", FENCE))
    local answer = take("a", 1000, agreed)
    assert.is_true(answer[1] == OK and answer[3] > 50000)
    assert.is_true(redis:call("PTTL", LOCK) > 50000)
    assert.are.same({OK}, release("a"))
    assert.are.equal(agreed + 1, take("b")[2])
  end)

  it("a fence that is lower than the server's last one does not lower that", function()
    redis:call("SET", FENCE, "8000000000000000")
    local answer = take("a", 5000, 7000000000000000)
    assert.are.same({OK, 7000000000000000, 5000, 0}, answer)
    assert.are.equal("7000000000000000", redis:call("HGET", LOCK, "fence"))
    assert.are.equal("8000000000000000", redis:call("GET", FENCE))
    release("a")
    assert.are.equal(8000000000000001, take("b")[2])
  end)

  it("one server that is reached by two names has one vote", function()
    take("a", 5000, 0, "1")
    local before = dumps()
    assert.are.same({TWICE}, take("a", 60000, 0, "3"))
    assert.are.same({TWICE}, take("a", 60000, 8000000000000000, "3"))
    assert.are.same(before, dumps())
  end)

  it("what was given back before it was taken cannot be taken any more", function()
    assert.are.same({GONE}, release("a", 5000))
    local left = redis:call("PTTL", VOID)
    assert.is_true(left > 0 and left <= 5000)
    local before = dumps()
    assert.are.same({GONE}, take("a"))
    assert.are.same({GONE}, take("a", 5000, 8000000000000000))
    assert.are.same(before, dumps())
    redis:call("DEL", VOID)
    assert.are.equal(OK, take("a")[1])
    assert.are.same({OK}, release("a", 5000))
    assert.are.same({GONE}, take("a"))
    assert.are.equal(0, redis:call("EXISTS", LOCK))
  end)

  it("a foreign release changes nothing, and without need bars nothing", function()
    take("a")
    local before = dumps()
    assert.are.same({HELD}, release("b"))
    assert.are.same(before, dumps())
    assert.are.same({OK}, release("a"))
    assert.are.same({GONE}, release("a"))
    assert.are.equal(0, redis:call("EXISTS", LOCK, VOID))
  end)

  it("tells for how long the server has been up", function()
    local up = tonumber((redis:call("INFO", "server"):match("uptime_in_seconds:(%d+)")))
    local answer = take("a", 5000, 0, "1", "1")
    assert.is_true(answer[4] >= up and answer[4] <= up + 5)
  end)

  it("bad input is refused before anything is written", function()
    for _, lease in ipairs {"", "x", "0", "-5", "1.5", "86400001", "nan", "inf"} do
      assert.is_truthy(take("a", lease).err:find("ARGV[2] is the lease", 1, true), lease)
    end
    for _, fence in ipairs {"", "x", "-1", "1.5", "9007199254740991", "nan", "inf"} do
      assert.is_truthy(take("a", 1000, fence).err:find("ARGV[3] is a fence", 1, true), fence)
    end
    for _, bars in ipairs {"", "x", "-1", "1.5", "86400001", "nan"} do
      assert.is_truthy(release("a", bars).err:find("ARGV[2] is how long", 1, true), bars)
    end
    assert.are.equal(0, redis:call("DBSIZE"))
    for _, fence in ipairs {"x", "1.5", "9007199254740991", "inf"} do
      redis:call("SET", FENCE, fence)
      assert.is_truthy(take("a").err:find("holds no fence", 1, true), fence)
      assert.is_truthy(take("a", 1000, 5).err:find("holds no fence", 1, true), fence)
      assert.are.equal(0, redis:call("EXISTS", LOCK))
      assert.are.equal(fence, redis:call("GET", FENCE))
    end
    redis:call("SET", LOCK, "x")
    assert.is_truthy(take("a").err:find("WRONGTYPE", 1, true))
    assert.is_truthy(release("a").err:find("WRONGTYPE", 1, true))
    assert.are.equal("x", redis:call("GET", LOCK))
  end)
end)

-- Three clients and five servers, in virtual time.  A step is one message that arrives, or is lost, or time that passes,
-- or a server that is killed and starts anew without its memory.  Clients do what core/src/patterns/redlock_attempt.c
-- does: ask all, tell the greatest fence of the quorum to those that voted, hold when a quorum has it, extend, give back;
-- answers count in any order, requests may arrive late, even after the release.  The clocks of the servers differ.
describe("a redlock over five servers", function()
  local NODES, QUORUM, CLIENTS = 5, 3, 3
  local LEASE, BARS = 30, 60000 -- ms
  local run = {redlock_take = fake.compile(scripts.expand("redlock_take"), "redlock_take"),
    redlock_release = fake.compile(scripts.expand("redlock_release"), "redlock_release")}
  local SKEW = {0, 7000, -7000, 20000, -20000} -- us; the most that they differ is below the quarantine

  local function new_world(rules, seed)
    local world = {now = 1000000000, rules = rules, seed = seed, nodes = {}, clients = {}, mail = {}, highest = 0,
      overlaps = 0, falls = 0, acquired = 0, extended = 0, orphans = 0, freed = {}}
    for i = 1, NODES do
      world.nodes[i] = {redis = fake.new_state(), since = world.now - 10000000}
      world.nodes[i].redis.ahead = SKEW[i]
    end
    for i = 1, CLIENTS do world.clients[i] = {id = i, serial = 0, stage = "idle", until_us = 0} end
    return world
  end

  local function random(world, bound)
    world.seed = (world.seed * 6364136223846793005 + 1442695040888963407)
    return ((world.seed >> 33) % bound) + 1
  end

  local function send(world, client, node, kind, fence)
    world.mail[#world.mail + 1] = {client = client, node = node, kind = kind, fence = fence, token = client.token,
      id = client.id_now, sent = world.now}
  end

  local function to_all(world, client, kind, fence)
    for node = 1, NODES do send(world, client, node, kind, fence) end
  end

  local function counts(world, node, answer)
    return answer[1] == OK and (not world.rules.quarantine or world.now - world.nodes[node].since >= LEASE * 1000)
  end

  local function give_back(world, client)
    client.stage, client.until_us = "idle", 0
    to_all(world, client, "release")
  end

  local function hold(world, client, kind)
    client.until_us = math.max(client.until_us, client.began + LEASE * 1000)
    if client.until_us <= world.now then return give_back(world, client) end
    client.stage = "holds"
    if kind == "extend" then
      world.extended = world.extended + 1
      return
    end
    world.acquired = world.acquired + 1
    for _, other in ipairs(world.clients) do
      if other ~= client and other.until_us > world.now then world.overlaps = world.overlaps + 1 end
    end
    if client.fence <= world.highest then world.falls = world.falls + 1 end
    world.highest = math.max(world.highest, client.fence)
  end

  -- An answer to what the client waits for.
  local function heed(world, client, node, answer)
    client.answers = client.answers + 1
    if counts(world, node, answer) then client.votes = client.votes + 1 end
    if client.stage == "asks" then
      if answer[1] == OK then
        client.voted[#client.voted + 1] = node
        client.fence = math.max(client.fence, answer[2])
      end
      if client.votes < QUORUM then
        if client.answers == NODES then give_back(world, client) end
        return
      end
      if not world.rules.writes_back then return hold(world, client) end
      client.began = world.now
      client.stage, client.answers, client.votes = "agrees", 0, 0
      for _, voter in ipairs(client.voted) do send(world, client, voter, "agree", client.fence) end
      client.asked = #client.voted
    elseif client.stage == "agrees" then
      if client.votes >= QUORUM then return hold(world, client) end
      if client.answers == client.asked then give_back(world, client) end
    elseif client.stage == "extends" then
      if client.votes >= QUORUM then return hold(world, client, "extend") end
      if client.answers == NODES then client.stage = "holds" end
    end
  end

  local function arrive(world, letter)
    local node, client = world.nodes[letter.node], letter.client
    node.redis.now = world.now
    local key = letter.token .. " " .. letter.node
    if letter.kind == "release" then
      world.freed[key] = true
      run.redlock_release(node.redis, {LOCK, "void." .. letter.id}, {letter.token, tostring(BARS)})
      return
    end
    local fence = letter.kind == "ask" and 0 or letter.fence
    local answer = run.redlock_take(node.redis, {LOCK, FENCE, "void." .. letter.id},
      {letter.token, tostring(LEASE), string.format("%.0f", fence), tostring(letter.node), "0"})
    if answer[1] == OK and world.freed[key] then world.orphans = world.orphans + 1 end
    local waits = {ask = "asks", agree = "agrees", extend = "extends"}
    if letter.token ~= client.token or client.stage ~= waits[letter.kind] then return end
    heed(world, client, letter.node, answer)
  end

  local function deliver(world)
    if #world.mail == 0 then return end
    local letter = table.remove(world.mail, random(world, #world.mail))
    if random(world, 20) > 1 then arrive(world, letter) end -- or it is lost
  end

  local function act(world)
    local client = world.clients[random(world, CLIENTS)]
    if client.stage == "holds" and client.until_us <= world.now then client.stage = "idle" end
    if client.stage == "idle" then
      client.serial = client.serial + 1
      client.token, client.id_now = client.id .. "-" .. client.serial, client.id .. "." .. client.serial
      client.stage, client.answers, client.votes, client.voted = "asks", 0, 0, {}
      client.fence, client.began = 0, world.now
      to_all(world, client, "ask")
    elseif client.stage == "holds" and random(world, 2) == 1 then
      client.stage, client.answers, client.votes, client.began = "extends", 0, 0, world.now
      to_all(world, client, "extend", client.fence)
    elseif random(world, 3) == 1 then
      give_back(world, client)
    end
  end

  local function crash(world)
    local node = world.nodes[random(world, NODES)]
    local ahead = node.redis.ahead
    node.redis, node.since = fake.new_state(), world.now
    node.redis.ahead = ahead
  end

  local function live(rules, steps, seed)
    local world = new_world(rules, seed)
    for _ = 1, steps do
      local kind = random(world, 100)
      if kind <= 82 then deliver(world)
      elseif kind <= 90 then act(world)
      elseif kind <= 99 or not rules.crashes then world.now = world.now + random(world, 6) * 1000
      else crash(world) end
    end
    return world
  end

  local STEPS = steps_of(200000)
  local function check(rules, seed) return live(rules, STEPS, seed) end

  it("is held by one at a time, and its fences rise, though servers lose their memory", function()
    local world = check({quarantine = true, writes_back = true, crashes = true}, 1)
    assert.are.same({0, 0}, {world.overlaps, world.falls})
    assert.is_true(world.acquired > STEPS / 500, world.acquired)
    assert.is_true(world.extended > STEPS / 2000, world.extended)
  end)

  it("is not, without the quarantine", function()
    local world = check({quarantine = false, writes_back = true, crashes = true}, 2)
    assert.is_true(world.overlaps > 0)
  end)

  it("keeps both without crashes or quarantine; and no late request takes what was given back", function()
    local world = check({quarantine = false, writes_back = true, crashes = false}, 3)
    assert.are.same({0, 0, 0}, {world.overlaps, world.falls, world.orphans})
    assert.is_true(world.acquired > STEPS / 500)
  end)

  it("is seen to fall in its fences when they are not written back", function()
    local world = check({quarantine = true, writes_back = false, crashes = false}, 4)
    assert.are.equal(0, world.overlaps)
    assert.is_true(world.falls > 0)
  end)
end)
