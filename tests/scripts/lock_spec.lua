-- SPDX-License-Identifier: MIT
-- The lock scripts: against a real server, and over all interleavings of three clients against a fake one.
local here = debug.getinfo(1, "S").source:match("^@(.*/)") or "./"
package.path = here .. "support/?.lua;" .. package.path
local scripts = require "scripts"
local server = require "server"
local fake = require "fake_redis"

local LOCK, FENCE, BEATS = "redmoon:{n}:lock", "redmoon:{n}:fence", "redmoon:{n}:lock.beats"
local REQUEST = "redmoon:{n}:lock+req.r1"
local OK, HELD, GONE, MORE, SPENT = 1, 0, -1, 2, -2

describe("lock scripts on a server", function()
  local redis, stop
  setup(function() redis, stop = server.start() end)
  teardown(function() stop() end)
  before_each(function() redis:call("FLUSHALL") end)

  local function acquire(token, lease, id, max)
    return redis:call("EVAL", scripts.expand("lock_acquire"), 3, LOCK, FENCE, BEATS, token, lease or 10000,
      id or "1", max or 0)
  end
  local function request(token, lease, id)
    return redis:call("EVAL", scripts.expand("lock_acquire"), 4, LOCK, FENCE, BEATS, REQUEST, token, lease or 10000,
      id, 0)
  end
  local function extend(token, lease, id)
    return redis:call("EVAL", scripts.expand("lock_extend"), 1, LOCK, token, lease or 10000, id or "1")
  end
  local function release(token, id)
    return redis:call("EVAL", scripts.expand("lock_release"), 1, LOCK, token, id or "1")
  end
  local function at(now, name, keys, ...) -- with the clock at `now`, in us
    local words = {"EVAL", scripts.expand_timed(name), #keys}
    for _, word in ipairs(keys) do words[#words + 1] = word end
    for _, word in ipairs {...} do words[#words + 1] = word end
    words[#words + 1] = string.format("%d", now)
    return redis:call(table.unpack(words))
  end
  local function dumps() return {redis:call("DUMP", LOCK), redis:call("DUMP", FENCE)} end

  it("acquire stores owner, fence and since, with a lifetime on both keys", function()
    local time = redis:call("TIME")
    local answer = acquire("a\0b", 5000)
    assert.are.equal(OK, answer[1])
    assert.are.equal(5000, answer[3])
    assert.is_true(answer[2] >= tonumber(time[1]) * 1000000 + tonumber(time[2]))
    local fields = redis:call("HMGET", LOCK, "owner", "fence", "since")
    assert.are.same({"a\0b", tostring(answer[2]), tostring(answer[2])}, fields)
    assert.are.equal(tostring(answer[2]), redis:call("GET", FENCE))
    local left, fence_left = redis:call("PTTL", LOCK), redis:call("PTTL", FENCE)
    assert.is_true(left > 0 and left <= 5000)
    assert.is_true(fence_left > 2500000000 and fence_left <= 2592000000)
  end)

  it("acquire of a held lock answers the holder's fence and changes nothing", function()
    local first = acquire("a")
    local before = dumps()
    local second = acquire("b", 60000)
    assert.are.equal(HELD, second[1])
    assert.are.equal(first[2], second[2])
    assert.is_true(second[3] > 0 and second[3] <= 10000)
    assert.are.same(before, dumps())
    assert.is_true(redis:call("PTTL", LOCK) <= 10000)
  end)

  it("acquire repeated with the same token answers the same fence and does not prolong the lease", function()
    local first = acquire("a", 5000)
    local before = dumps()
    local again = acquire("a", 60000)
    assert.are.same({OK, first[2]}, {again[1], again[2]})
    assert.is_true(again[3] <= 5000)
    assert.are.same(before, dumps())
    assert.is_true(redis:call("PTTL", LOCK) <= 5000)
  end)

  it("fence rises over every holder, also after FLUSHALL", function()
    local last = 0
    for i = 1, 200 do
      local answer = acquire("t" .. i)
      assert.are.equal(OK, answer[1])
      assert.is_true(answer[2] > last)
      last = answer[2]
      if i % 2 == 0 then redis:call("FLUSHALL") else assert.are.same({OK}, release("t" .. i)) end
    end
  end)

  it("fence rises by one while the clock is behind the last fence", function()
    redis:call("SET", FENCE, "5000000000000001")
    assert.are.equal(5000000000000002, acquire("a")[2])
    release("a")
    assert.are.equal(5000000000000003, acquire("b")[2])
    assert.are.equal("5000000000000003", redis:call("HGET", LOCK, "fence"))
  end)

  it("foreign release and extend change nothing", function()
    acquire("a")
    local before = dumps()
    assert.are.same({HELD}, release("b"))
    assert.are.same({HELD}, extend("b", 60000))
    assert.are.same(before, dumps())
    assert.is_true(redis:call("PTTL", LOCK) <= 10000)
  end)

  it("release and extend of a free lock answer gone and create nothing", function()
    assert.are.same({GONE}, release("a"))
    assert.are.same({GONE}, extend("a"))
    assert.are.equal(0, redis:call("DBSIZE"))
  end)

  it("extend prolongs, and never shortens", function()
    acquire("a", 5000)
    assert.are.same({OK, 60000}, extend("a", 60000))
    assert.is_true(redis:call("PTTL", LOCK) > 50000)
    local answer = extend("a", 1000)
    assert.are.equal(OK, answer[1])
    assert.is_true(answer[2] > 50000)
    assert.is_true(redis:call("PTTL", LOCK) > 50000)
  end)

  it("release keeps the fence", function()
    local fence = acquire("a")[2]
    assert.are.same({OK}, release("a"))
    assert.are.equal(0, redis:call("EXISTS", LOCK))
    assert.are.equal(tostring(fence), redis:call("GET", FENCE))
  end)

  it("its owner may hold it more than once: a release for each hold, in any order; repeated ones are harmless", function()
    local first = acquire("a", 5000, "x")
    assert.are.same({OK, first[2], 5000, 1}, first)
    assert.are.same({MORE, first[2], 60000, 2}, acquire("a", 60000, "y"))
    assert.is_true(redis:call("PTTL", LOCK) > 50000)
    local before = dumps()
    local again = acquire("a", 70000, "y")
    assert.are.same({OK, first[2], 2}, {again[1], again[2], again[4]})
    assert.are.same(before, dumps())
    assert.are.equal(HELD, acquire("b", 60000, "y")[1])
    assert.are.same({MORE, first[2], 1}, release("a", "x"))
    assert.are.same({MORE, first[2], 1}, release("a", "x"))
    assert.are.same({HELD}, extend("a", 60000, "x"))
    assert.are.equal(OK, extend("a", 70000, "y")[1])
    assert.are.same({OK}, release("a", "y"))
    assert.are.equal(0, redis:call("EXISTS", LOCK))
    assert.are.same({GONE}, release("a", "y"))
  end)

  it("an owner that holds it 1000 times is refused, and nothing changes", function()
    for i = 1, 1000 do acquire("a", 10000, "h" .. i) end
    local before = dumps()
    assert.is_truthy(acquire("a", 10000, "more").err:find("held 1000 times", 1, true))
    assert.are.same(before, dumps())
    assert.are.equal(1000, acquire("a", 10000, "h1")[4])
  end)

  it("the longest hold cuts each extension, and re-entry, and is told apart", function()
    local start = 1700000000000000
    assert.are.equal(OK, at(start, "lock_acquire", {LOCK, FENCE, BEATS}, "a", 60000, "x", 100000)[1])
    assert.are.same({OK, 60000}, {table.unpack(at(start + 1000, "lock_extend", {LOCK}, "a", 60000, "x"), 1, 2)})
    assert.are.same({OK, 70000}, at(start + 30000000, "lock_extend", {LOCK}, "a", 70000, "x"))
    assert.are.same({OK, 80000}, at(start + 20000000, "lock_extend", {LOCK}, "a", 90000, "x"))
    local before = dumps()
    local spent = at(start + 60000000, "lock_extend", {LOCK}, "a", 90000, "x")
    assert.are.equal(SPENT, spent[1])
    assert.is_true(spent[2] > 40000 and spent[2] <= 80000)
    assert.are.equal(SPENT, at(start + 100000000, "lock_extend", {LOCK}, "a", 90000, "x")[1])
    assert.are.equal(SPENT, at(start + 900000000, "lock_extend", {LOCK}, "a", 90000, "x")[1])
    assert.are.same(before, dumps())
    local entered = at(start + 40000000, "lock_acquire", {LOCK, FENCE, BEATS}, "a", 86400000, "y", 0)
    assert.are.equal(MORE, entered[1])
    assert.is_true(redis:call("PTTL", LOCK) <= 80000)
    assert.are.equal(2, entered[4])
    assert.are.equal(MORE, release("a", "x")[1])
    assert.are.same({OK}, release("a", "y"))
  end)

  it("a clock that is set back gives no hold longer than the longest", function()
    local start = 1700000000000000
    at(start, "lock_acquire", {LOCK, FENCE, BEATS}, "a", 1000, "x", 50000)
    assert.are.same({OK, 50000}, at(start - 3600000000, "lock_extend", {LOCK}, "a", 86400000, "x"))
  end)

  it("a request with an id gets the same lock when it is repeated, and never another", function()
    local first = request("a", 5000, "x")
    assert.are.same({OK, first[2], 5000, 1, "a", "x"}, first)
    assert.is_true(redis:call("PTTL", REQUEST) > 500000)
    local before = dumps()
    local again = request("b", 60000, "y")
    assert.are.same({OK, first[2], 1, "a", "x"}, {again[1], again[2], again[4], again[5], again[6]})
    assert.is_true(again[3] <= 5000)
    assert.are.same(before, dumps())
    assert.are.same({OK}, release("a", "x"))
    assert.are.same({GONE}, request("b", 60000, "y"))
    acquire("c")
    assert.are.same({GONE}, request("b", 60000, "y"))
    assert.are.equal("c", redis:call("HGET", LOCK, "owner"))
  end)

  it("a request with an id that was refused is not kept", function()
    acquire("c")
    assert.are.equal(HELD, request("a", 5000, "x")[1])
    assert.are.equal(0, redis:call("EXISTS", REQUEST))
    release("c")
    assert.are.equal(OK, request("a", 5000, "x")[1])
  end)

  it("bad input is refused before anything is written", function()
    for _, lease in ipairs {"", "x", "0", "-5", "1.5", "86400001", "nan", "inf"} do
      assert.is_truthy(acquire("a", lease).err:find("ARGV[2] is the lease", 1, true), lease)
      assert.are.equal(0, redis:call("DBSIZE"))
      assert.is_truthy(extend("a", lease).err:find("ARGV[2] is the lease", 1, true), lease)
    end
    for _, max in ipairs {"", "x", "-1", "9999", "10000.5", "31622400001", "nan", "inf"} do
      assert.is_truthy(acquire("a", 10000, "1", max).err:find("ARGV[4] is the longest hold", 1, true), max)
      assert.are.equal(0, redis:call("DBSIZE"))
    end
    for _, fence in ipairs {"x", "1.5", "9007199254740991", "inf"} do
      redis:call("SET", FENCE, fence)
      assert.is_truthy(acquire("a").err:find("holds no fence", 1, true), fence)
      assert.are.equal(0, redis:call("EXISTS", LOCK))
      assert.are.equal(fence, redis:call("GET", FENCE))
    end
    redis:call("SET", LOCK, "x")
    assert.is_truthy(acquire("a").err:find("WRONGTYPE", 1, true))
    assert.is_truthy(release("a").err:find("WRONGTYPE", 1, true))
    assert.are.equal("x", redis:call("GET", LOCK))
  end)
end)

-- Three clients do what they like, in every order, while time passes in thirds of a lease or stands still.  The first may
-- hold the lock twice, the second no longer than five thirds of a lease.
-- A client believes that it holds the lock until a lease after its request was answered, or until its last release.
describe("lock scripts in every interleaving of three clients", function()
  local run = {}
  for _, name in ipairs {"lock_acquire", "lock_extend", "lock_release"} do
    run[name] = fake.compile(scripts.expand(name), name)
  end
  local LEASE, TICK = 30, 10000 -- ms, us
  local MAX = {0, 50, 0} -- ms
  local KEYS3, KEYS1 = {LOCK, FENCE, BEATS}, {LOCK}

  local function token(id, client) return id .. "-" .. client.serial end

  local function copy_world(world)
    local out = {redis = fake.copy(world.redis), highest = world.highest, clients = {}}
    for i, client in ipairs(world.clients) do
      out.clients[i] = {serial = client.serial, until_us = client.until_us, fence = client.fence, since = client.since,
        client[1], client[2]}
    end
    return out
  end

  local function check(world)
    local holders = 0
    for id, client in ipairs(world.clients) do
      if client.until_us > world.redis.now then holders = holders + 1 end
      assert(MAX[id] == 0 or client.until_us <= client.since + MAX[id] * 1000, "it is held for too long")
    end
    assert(holders <= 1, "two clients hold the lock")
  end

  -- When a lease would end that is asked for now.
  local function lease_end(world, id)
    local ends, client = world.redis.now + LEASE * 1000, world.clients[id]
    return MAX[id] == 0 and ends or math.min(ends, client.since + MAX[id] * 1000)
  end

  -- A new acquisition, a repetition of one whose answer was lost, or one hold more.
  local function take(world, id, hold)
    local client, now = world.clients[id], world.redis.now
    local fresh = client.until_us <= now
    if fresh then client.serial, client[1], client[2] = client.serial + 1, false, false end
    local args = {token(id, client), tostring(LEASE), tostring(hold), tostring(MAX[id])}
    local answer = run.lock_acquire(world.redis, KEYS3, args)
    if answer[1] == HELD then
      assert(fresh, "a holder was told that another holds it")
      return
    end
    if fresh then
      assert(answer[1] == OK and answer[2] > world.highest, "the fence did not rise")
      world.highest, client.fence, client.since = answer[2], answer[2], now
      client.until_us = now + LEASE * 1000
    else
      assert(answer[1] == (client[hold] and OK or MORE) and answer[2] == client.fence, "not the hold that was asked for")
      if not client[hold] then client.until_us = math.max(client.until_us, lease_end(world, id)) end
    end
    client[hold] = true
    assert(answer[3] == (client.until_us - now) // 1000, "another lease than the client's")
    assert(answer[4] == (client[1] and 1 or 0) + (client[2] and 1 or 0), "a hold was counted twice, or not")
  end

  local function give(world, id, hold)
    local client = world.clients[id]
    local held = client.until_us > world.redis.now
    local answer = run.lock_release(world.redis, KEYS1, {token(id, client), tostring(hold)})
    if held then client[hold] = false end
    local left = held and (client[1] or client[2])
    assert((answer[1] == OK) == (held and not left), "a release was lost, or took what was not held")
    assert((answer[1] == MORE) == (left or false), "the other hold was lost, or kept")
    if not left then client.until_us = 0 end
  end

  local function extend(world, id)
    local client, now = world.clients[id], world.redis.now
    local held = client.until_us > now and client[1]
    local answer = run.lock_extend(world.redis, KEYS1, {token(id, client), tostring(LEASE), "1"})
    if not held then
      assert(answer[1] == HELD or answer[1] == GONE, "it was extended, and was not held")
      return
    end
    local ends = lease_end(world, id)
    local whole, longer = client.until_us >= now + LEASE * 1000, ends > client.until_us
    assert(answer[1] == ((whole or longer) and OK or SPENT), "extend did not agree with the lease")
    client.until_us = math.max(client.until_us, ends)
    assert(answer[2] == (client.until_us - now) // 1000, "another lease than the client's")
  end

  local actions = {}
  for id = 1, 3 do
    actions[#actions + 1] = function(world) take(world, id, 1) end
    actions[#actions + 1] = function(world) extend(world, id) end
    actions[#actions + 1] = function(world) give(world, id, 1) end
  end
  actions[#actions + 1] = function(world) take(world, 1, 2) end
  actions[#actions + 1] = function(world) give(world, 1, 2) end
  actions[#actions + 1] = function(world) world.redis.now = world.redis.now + TICK end
  actions[#actions + 1] = function(world) -- the fence's key is lost, and time passes
    world.redis.keys[FENCE] = nil
    world.redis.now = world.redis.now + TICK
  end

  -- What decides the future: who holds, for how long, what each believes, how far the fence is ahead of the clock.
  local function fingerprint(world)
    local now, entry = world.redis.now, fake.live(world.redis, LOCK)
    local out = {entry and entry.ends - now or 0}
    for id, client in ipairs(world.clients) do
      local owns = entry and entry.hash.owner == token(id, client)
      local holds = (client[1] and "1" or "0") .. (client[2] and "1" or "0")
      local age = MAX[id] > 0 and client.until_us > now and now - client.since or 0
      out[#out + 1] = table.concat({math.max(client.until_us - now, 0), owns and "+" or "-", holds, age}, "/")
    end
    local fence = world.redis.keys[FENCE]
    out[#out + 1] = fence and math.max(tonumber(fence.text) - now, 0) or "none"
    return table.concat(out, " ")
  end

  local function first_world()
    local clients = {}
    for i = 1, 3 do clients[i] = {serial = 0, until_us = 0, fence = 0, since = 0, false, false} end
    return {redis = fake.new_state(), highest = 0, clients = clients}
  end

  -- Every sequence of `depth` actions.
  local function explore(world, depth)
    if depth == 0 then return 0 end
    local steps = 0
    for _, act in ipairs(actions) do
      local after = copy_world(world)
      act(after)
      check(after)
      steps = steps + 1 + explore(after, depth - 1)
    end
    return steps
  end

  it("at most one client believes it holds it, fences rise, no release is lost: all sequences of 5", function()
    assert.are.equal(402233, explore(first_world(), 5))
  end)

  it("the same holds up to depth 40, equal situations explored once", function()
    local frontier, seen, steps = {first_world()}, {}, 0
    for _ = 1, 40 do
      local reached = {}
      for _, world in ipairs(frontier) do
        for _, act in ipairs(actions) do
          local after = copy_world(world)
          act(after)
          check(after)
          steps = steps + 1
          local situation = fingerprint(after)
          if not seen[situation] then
            seen[situation] = true
            reached[#reached + 1] = after
          end
        end
      end
      frontier = reached
    end
    assert.is_true(steps > 4000, "only " .. steps .. " steps")
  end)
end)
