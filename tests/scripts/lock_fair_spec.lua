-- SPDX-License-Identifier: MIT
-- Locks that are taken in turn: against a real server, and against a model on a fake one, in every interleaving and over
-- many random steps.  STEPS: how many of the latter; DEPTH: how far all situations are explored.
local here = debug.getinfo(1, "S").source:match("^@(.*/)") or "./"
package.path = here .. "support/?.lua;" .. package.path
local scripts = require "scripts"
local server = require "server"
local fake = require "fake_redis"
local steps_of = require "steps"

local LOCK, FENCE = "redmoon:{n}:lock", "redmoon:{n}:fence"
local QUEUE, BEATS = "redmoon:{n}:lock.queue", "redmoon:{n}:lock.beats"
local REQUEST = "redmoon:{n}:lock+req.r1"
local PLAIN_KEYS, FAIR_KEYS = {LOCK, FENCE, BEATS}, {LOCK, FENCE, QUEUE, BEATS}
local OK, HELD, GONE, MORE, QUEUED = 1, 0, -1, 2, 3
local BEAT = 5000000 -- us

describe("fair locks on a server", function()
  local redis, stop
  local start = 1700000000000000
  setup(function() redis, stop = server.start() end)
  teardown(function() stop() end)
  before_each(function() redis:call("FLUSHALL") end)

  local function run(text, keys, ...)
    local words = {"EVAL", text, #keys}
    for _, word in ipairs(keys) do words[#words + 1] = word end
    for _, word in ipairs {...} do words[#words + 1] = word end
    return redis:call(table.unpack(words))
  end
  -- `us` after the start of the test's time.
  local function fair(us, ticket, stays, keys)
    return run(scripts.expand_timed("lock_acquire_fair"), keys or FAIR_KEYS, "t" .. ticket, 60000, ticket, 0, stays or 1,
      string.format("%d", start + us))
  end
  local function plain(us, ticket)
    return run(scripts.expand_timed("lock_acquire"), PLAIN_KEYS, "t" .. ticket, 60000, ticket, 0,
      string.format("%d", start + us))
  end
  local function release(ticket) return run(scripts.expand("lock_release"), {LOCK}, "t" .. ticket, ticket) end
  local function queue() return redis:call("ZRANGE", QUEUE, 0, -1) end
  local function dump(...)
    local out = {}
    for i, key in ipairs {...} do out[i] = redis:call("DUMP", key) end
    return out
  end

  it("is given at once when nobody waits, without a ticket", function()
    assert.are.same({OK, start, 60000, 1}, fair(0, "a"))
    assert.are.equal(0, redis:call("EXISTS", QUEUE, BEATS))
    assert.are.same({OK}, release("a"))
  end)

  it("goes to those who wait in the order in which they asked, whoever asks first after a release", function()
    fair(0, "a")
    for place, ticket in ipairs {"c", "b", "d"} do
      assert.are.same({HELD, start, place}, {fair(place, ticket)[1], fair(place, ticket)[2], fair(place, ticket)[4]})
    end
    assert.are.same({"c", "b", "d"}, queue())
    local before, fence = "a", start
    for i, ticket in ipairs {"c", "b", "d"} do
      release(before)
      for _, other in ipairs {"d", "b", "e"} do
        if other ~= ticket and (i < 3 or other ~= "b") and (i < 2 or other ~= "c") then
          assert.are.equal(QUEUED, fair(10, other, other == "e" and 0 or 1)[1])
        end
      end
      local taken = fair(10, ticket)
      assert.are.same({OK, 1}, {taken[1], taken[4]})
      assert.is_true(taken[2] > fence)
      before, fence = ticket, taken[2]
    end
    assert.are.equal(0, redis:call("EXISTS", QUEUE, BEATS))
  end)

  it("says whose turn it is for how long, and that a ticket lives for five seconds from the last ask", function()
    fair(0, "a")
    fair(0, "b")
    fair(0, "c")
    for _, key in ipairs {QUEUE, BEATS} do
      local left = redis:call("PTTL", key)
      assert.is_true(left > 0 and left <= 5001, key)
    end
    release("a")
    assert.are.same({QUEUED, 0, 4000, 2}, fair(1000000, "c"))
    assert.are.same({QUEUED, 0, 1, 2}, fair(BEAT - 1, "c"))
    assert.are.same({OK, 1}, {fair(BEAT, "c")[1], fair(BEAT, "c")[4]}) -- b did not ask for five seconds
    assert.are.same({}, queue())
    assert.are.same({HELD, 1}, {fair(BEAT, "b")[1], fair(BEAT, "b")[4]})
  end)

  it("a ticket that ended has lost its place, wherever it stood", function()
    fair(0, "a")
    fair(0, "b")
    fair(1, "c")
    fair(1, "d")
    fair(BEAT, "d")
    assert.are.same({"c", "d"}, queue())
    assert.are.same({HELD, 3}, {fair(BEAT, "b")[1], fair(BEAT, "b")[4]})
    assert.are.same({"c", "d", "b"}, queue())
    assert.are.same({HELD, 3}, {fair(BEAT + 1, "c")[1], fair(BEAT + 1, "c")[4]})
    assert.are.same({"d", "b", "c"}, queue())
  end)

  it("who gives up takes the ticket back, and a refusal without one leaves everything as it was", function()
    fair(0, "a")
    fair(0, "b")
    fair(0, "c")
    local before = dump(FENCE)
    assert.are.equal("b", redis:call("HGET", LOCK, "waits")) -- whom a release is to wake
    assert.are.same({HELD, 0}, {fair(1, "b", 0)[1], fair(1, "b", 0)[4]})
    assert.are.same({"c"}, queue())
    assert.are.equal("c", redis:call("HGET", LOCK, "waits"))
    assert.are.equal(1, redis:call("ZCARD", BEATS))
    assert.are.same(before, dump(FENCE))
    before = dump(LOCK, FENCE, QUEUE, BEATS)
    assert.are.equal(HELD, fair(1, "e", 0)[1])
    assert.are.same(before, dump(LOCK, FENCE, QUEUE, BEATS))
    release("a")
    before = dump(FENCE, QUEUE, BEATS)
    assert.are.same({QUEUED, 0, 5000, 0}, fair(0, "e", 0))
    assert.are.same(before, dump(FENCE, QUEUE, BEATS))
    assert.are.equal(0, redis:call("EXISTS", LOCK))
  end)

  it("is refused to those who do not wait in turn while a ticket lives, and nothing is written", function()
    fair(0, "a")
    fair(0, "b")
    assert.are.same({HELD, start}, {plain(1, "p")[1], plain(1, "p")[2]})
    release("a")
    local before = dump(FENCE, QUEUE, BEATS)
    assert.are.same({QUEUED, 0, 5000}, plain(0, "p"))
    assert.are.same({QUEUED, 0, 1}, plain(BEAT - 1, "p"))
    assert.are.same(before, dump(FENCE, QUEUE, BEATS))
    assert.are.equal(0, redis:call("EXISTS", LOCK))
    assert.are.equal(OK, plain(BEAT, "p")[1])
  end)

  it("its owner holds it once more without waiting, and a repetition is no new ask", function()
    fair(0, "a")
    fair(0, "b")
    local again = run(scripts.expand_timed("lock_acquire_fair"), FAIR_KEYS, "ta", 60000, "a2", 0, 1,
      string.format("%d", start + 1))
    assert.are.same({MORE, start, 2}, {again[1], again[2], again[4]})
    local before = dump(LOCK, FENCE, QUEUE, BEATS)
    assert.are.same({OK, start, 2}, {fair(2, "a")[1], fair(2, "a")[2], fair(2, "a")[4]})
    assert.are.same(before, dump(LOCK, FENCE, QUEUE, BEATS))
    assert.are.same({"b"}, queue())
  end)

  it("a request that is asked for twice gets one lock, and leaves no ticket behind", function()
    local keys = {LOCK, FENCE, QUEUE, BEATS, REQUEST}
    fair(0, "z")
    assert.are.equal(1, fair(1, "a", 1, keys)[4])
    assert.are.equal(2, fair(1, "b", 1, keys)[4])
    release("z")
    local first = fair(2, "a", 1, keys)
    assert.are.same({OK, "ta", "a"}, {first[1], first[5], first[6]})
    assert.are.same({"b"}, queue())
    local again = fair(3, "b", 1, keys)
    assert.are.same({OK, first[2], 1, "ta", "a"}, {again[1], again[2], again[4], again[5], again[6]})
    assert.are.same({}, queue())
    assert.are.same({OK}, release("a"))
    assert.are.same({GONE}, fair(4, "c", 1, keys))
    assert.are.equal(0, redis:call("EXISTS", LOCK, QUEUE, BEATS))
  end)

  it("a request that waited is gone with its ticket when what it got is held no more", function()
    local keys = {LOCK, FENCE, QUEUE, BEATS, REQUEST}
    fair(0, "z")
    fair(1, "a", 1, keys)
    fair(1, "b", 1, keys)
    release("z")
    fair(2, "a", 1, keys)
    release("a")
    assert.are.same({GONE}, fair(3, "b", 1, keys))
    assert.are.same({}, queue())
  end)

  it("of more than a thousand that died a thousand go with each call, and nobody is let in before the rest is", function()
    fair(0, "a")
    for first = 1, 2500, 500 do
      local ranks, beats = {"ZADD", QUEUE}, {"ZADD", BEATS}
      for i = first, first + 499 do
        ranks[#ranks + 1], ranks[#ranks + 2] = tostring(i), "dead" .. i
        beats[#beats + 1], beats[#beats + 2] = string.format("%d", start + BEAT), "dead" .. i
      end
      redis:call(table.unpack(ranks))
      redis:call(table.unpack(beats))
    end
    release("a")
    assert.are.same({QUEUED, 0, 0, 1501}, fair(BEAT, "b"))
    assert.are.same({1501, 1501}, {redis:call("ZCARD", QUEUE), redis:call("ZCARD", BEATS)})
    assert.are.same({QUEUED, 0, 0, 501}, fair(BEAT + 1, "b"))
    assert.are.equal(OK, fair(BEAT + 2, "b")[1])
    assert.are.equal(0, redis:call("EXISTS", QUEUE, BEATS))
  end)

  it("who comes back after a thousand that died, and was dead itself, has no turn before those that live", function()
    fair(0, "a")
    for i = 1, 1000 do
      redis:call("ZADD", QUEUE, i, "dead" .. i)
      redis:call("ZADD", BEATS, string.format("%d", start + BEAT), "dead" .. i)
    end
    fair(0, "b")
    fair(1, "c")
    release("a")
    assert.are.same({QUEUED, 2}, {fair(BEAT, "b")[1], fair(BEAT, "b")[4]})
    assert.are.same({"c", "b"}, queue())
  end)

  it("a clock that is set back lets no ticket live longer than five seconds from the next ask", function()
    local hour = 3600000000
    fair(0, "a")
    fair(0, "b")
    fair(0, "c")
    release("a")
    assert.are.same({QUEUED, 0, 5000, 2}, fair(-hour, "c"))
    assert.are.same({"b", "c"}, queue())
    assert.are.same({QUEUED, 0, 1, 2}, fair(-hour + BEAT - 1, "c"))
    assert.are.equal(OK, fair(-hour + BEAT, "c")[1])
    release("c")
    fair(0, "d")
    fair(0, "e")
    release("d")
    assert.are.equal(OK, plain(-hour, "p")[1])
  end)

  it("the loss of either key costs places, and bars nobody", function()
    for _, lost in ipairs {QUEUE, BEATS} do
      redis:call("FLUSHALL")
      fair(0, "a")
      fair(0, "dead")
      fair(0, "b")
      redis:call("DEL", lost)
      assert.are.same({HELD, 1}, {fair(1, "b")[1], fair(1, "b")[4]}, lost)
      release("a")
      assert.are.equal(OK, fair(1, "b")[1], lost)
      assert.are.equal(HELD, fair(2, "c")[1])
      fair(BEAT + 2, "c")
      release("b")
      assert.are.equal(OK, fair(BEAT + 2, "c")[1], lost)
      assert.are.equal(0, redis:call("EXISTS", QUEUE, BEATS), lost)
    end
  end)

  it("bad input is refused before anything is written", function()
    local text = scripts.expand("lock_acquire_fair")
    for _, case in ipairs {
      {"0", "0", "1", "ARGV[2] is the lease"}, {"86400001", "0", "1", "ARGV[2] is the lease"},
      {"10000", "9999", "1", "ARGV[4] is the longest hold"}, {"10000", "0", "2", "ARGV[5] is 1 to wait, else 0"},
      {"10000", "0", "", "ARGV[5] is 1 to wait, else 0"},
    } do
      assert.is_truthy(run(text, FAIR_KEYS, "t", case[1], "a", case[2], case[3]).err:find(case[4], 1, true), case[4])
      assert.are.equal(0, redis:call("DBSIZE"))
    end
    redis:call("SET", FENCE, "x")
    assert.is_truthy(fair(0, "a").err:find("holds no fence", 1, true))
    assert.are.equal(1, redis:call("DBSIZE"))
    for _, key in ipairs {LOCK, QUEUE, BEATS} do
      redis:call("FLUSHALL")
      redis:call("SET", key, "x")
      assert.is_truthy(fair(0, "a").err:find("WRONGTYPE", 1, true), key)
      assert.are.same({"x", 1}, {redis:call("GET", key), redis:call("DBSIZE")})
    end
  end)
end)

-- Clients wait in turn, give up, die, take it without waiting, hold it twice, or lose an answer, while time passes.  The
-- model is a list of tickets and one owner; every answer, and the order of those that live, is compared with it.
describe("fair locks beside a model", function()
  local run = {}
  for _, name in ipairs {"lock_acquire", "lock_acquire_fair", "lock_extend", "lock_release"} do
    run[name] = fake.compile(scripts.expand(name), name)
  end
  local LEASE = 4000 -- ms; a ticket lives for two ticks of the exploration, a lease ends between two

  local function first_world(clients)
    local world = {redis = fake.new_state(), serials = {}, waiting = {}, highest = 0}
    for i = 1, clients do world.serials[i] = 0 end
    return world
  end

  local function copy_world(world)
    local out = {redis = fake.copy(world.redis), serials = {table.unpack(world.serials)}, waiting = {},
      highest = world.highest, kept = world.kept}
    for i, ticket in ipairs(world.waiting) do out.waiting[i] = {id = ticket.id, ends = ticket.ends} end
    local owner = world.owner
    out.owner = owner and {id = owner.id, ends = owner.ends, fence = owner.fence, second = owner.second}
    return out
  end

  local function id_of(world, client) return client .. "." .. world.serials[client] end

  -- Takes out of the model what ended.
  local function settle(world)
    local now, living = world.redis.now, {}
    if world.owner and world.owner.ends <= now then world.owner = nil end
    for _, ticket in ipairs(world.waiting) do
      if ticket.ends > now then living[#living + 1] = ticket end
    end
    world.waiting = living
  end

  local function place_of(world, id)
    for place, ticket in ipairs(world.waiting) do
      if ticket.id == id then return place end
    end
  end

  local function forget(world, id)
    local place = place_of(world, id)
    if place then table.remove(world.waiting, place) end
  end

  local function given(world, id, answer)
    assert(answer[1] == OK and answer[3] == LEASE and answer[4] == 1, "it was not given")
    assert(answer[2] > world.highest, "the fence did not rise")
    world.highest = answer[2]
    world.owner = {id = id, ends = world.redis.now + LEASE * 1000, fence = answer[2]}
    forget(world, id)
  end

  -- Client `client` asks in turn; the answer may be lost on its way.
  local function ask(world, client, stays)
    settle(world)
    local id, now, owner = id_of(world, client), world.redis.now, world.owner
    local answer = run.lock_acquire_fair(world.redis, FAIR_KEYS, {id, tostring(LEASE), id, "0", stays and "1" or "0"})
    local first = world.waiting[1]
    if owner and owner.id == id then
      assert(answer[1] == OK and answer[2] == owner.fence, "a repetition was not known again")
      assert(answer[4] == (owner.second and 2 or 1), "a hold was counted twice, or not")
      return
    end
    if not owner and (not first or first.id == id) then return given(world, id, answer) end
    assert(answer[1] == (owner and HELD or QUEUED), "it was given out of turn, or twice")
    if stays then
      local place = place_of(world, id)
      if not place then
        place = #world.waiting + 1
        world.waiting[place] = {id = id}
      end
      world.waiting[place].ends, world.kept = now + BEAT, now
      assert(answer[4] >= place, "another place than the model's")
      if place == 1 then assert(answer[4] == 1, "tickets that ended stand in front") end
    else
      assert(answer[4] == 0)
      forget(world, id)
      world.serials[client] = world.serials[client] + 1
    end
    if owner then
      assert(answer[2] == owner.fence and answer[3] == (owner.ends - now) // 1000)
    else
      assert(answer[3] == math.ceil((first.ends - now) / 1000), "another end of the first ticket")
    end
  end

  local function take_plain(world, client)
    settle(world)
    local id, owner = id_of(world, client), world.owner
    local answer = run.lock_acquire(world.redis, PLAIN_KEYS, {id, tostring(LEASE), id, "0"})
    if owner and owner.id == id then
      assert(answer[1] == OK and answer[2] == owner.fence)
    elseif owner then
      assert(answer[1] == HELD, "two hold it")
    elseif #world.waiting > 0 then
      assert(answer[1] == QUEUED, "who does not wait in turn overtook those who do")
    else
      given(world, id, answer)
    end
  end

  local function hold_twice(world, client)
    settle(world)
    local owner = world.owner
    if not owner or owner.id ~= id_of(world, client) then return end
    local answer = run.lock_acquire_fair(world.redis, FAIR_KEYS, {owner.id, tostring(LEASE), "second", "0", "1"})
    assert(answer[1] == (owner.second and OK or MORE) and answer[2] == owner.fence and answer[4] == 2)
    if not owner.second then owner.ends = math.max(owner.ends, world.redis.now + LEASE * 1000) end
    owner.second = true
  end

  local function release(world, client)
    settle(world)
    local id, owner = id_of(world, client), world.owner
    local mine = owner and owner.id == id
    local answer = run.lock_release(world.redis, {LOCK}, {id, id})
    if mine and owner.second then
      assert(answer[1] == MORE)
      run.lock_release(world.redis, {LOCK}, {id, "second"})
    else
      assert((answer[1] == OK) == (mine or false), "a release was lost, or took what was not held")
    end
    if mine then
      world.owner = nil
      world.serials[client] = world.serials[client] + 1
    end
  end

  local function extend(world, client)
    settle(world)
    local id, owner = id_of(world, client), world.owner
    local mine = owner and owner.id == id or false
    local answer = run.lock_extend(world.redis, {LOCK}, {id, tostring(LEASE), id})
    assert((answer[1] == OK) == mine)
    if mine then owner.ends = math.max(owner.ends, world.redis.now + LEASE * 1000) end
  end

  -- What it waits for or holds is left behind.
  local function die(world, client) world.serials[client] = world.serials[client] + 1 end

  local function check(world)
    settle(world)
    local now, beats = world.redis.now, fake.live(world.redis, BEATS)
    local living = {}
    for _, ticket in ipairs((fake.members(world.redis, QUEUE))) do
      if beats and (beats.scores[ticket] or 0) > now then living[#living + 1] = ticket end
    end
    assert(#living == #world.waiting, "a ticket outlives its waiter, or was lost")
    for place, ticket in ipairs(world.waiting) do
      assert(living[place] == ticket.id, "they stand in another order")
      assert(beats.scores[ticket.id] == ticket.ends, "a ticket ends at another time")
    end
    for _, key in ipairs {QUEUE, BEATS} do
      local entry = fake.live(world.redis, key)
      assert(not entry or entry.ends and entry.ends <= world.kept + BEAT + 1000, "a key outlives the tickets in it")
    end
    local entry = fake.live(world.redis, LOCK)
    assert((entry and entry.hash.owner) == (world.owner and world.owner.id), "another owner")
  end

  local function always() return true end

  local function actions_of(fair, tick, dies)
    local actions = {}
    local function add(act) actions[#actions + 1] = act end
    for client = 1, fair do
      add(function(world) ask(world, client, true) end)
      add(function(world) ask(world, client, false) end)
      add(function(world) release(world, client) end)
      add(function(world) if dies() then die(world, client) end end)
    end
    add(function(world) take_plain(world, fair + 1) end)
    add(function(world) release(world, fair + 1) end)
    add(function(world) hold_twice(world, 1) end)
    add(function(world) extend(world, 1) end)
    add(function(world) world.redis.now = world.redis.now + tick(world) end)
    add(function(world) -- the fence's key is lost, and the clock is past what it held: it is given less than once a us
      world.redis.keys[FENCE] = nil
      world.redis.now = (math.max(world.redis.now, world.highest) // 1000 + 1) * 1000
    end)
    return actions
  end

  -- What decides the future: who holds, and until when; who stands where, and until when; the lives of the keys.
  local function fingerprint(world)
    local now, out, names = world.redis.now, {}, {}
    for client = 1, #world.serials do names[id_of(world, client)] = client end
    local owner = world.owner
    out[1] = owner and table.concat({names[owner.id] or "x", owner.ends - now, owner.second and 2 or 1}, "/") or "free"
    for _, ticket in ipairs(world.waiting) do out[#out + 1] = (names[ticket.id] or "x") .. "/" .. ticket.ends - now end
    for _, key in ipairs {QUEUE, BEATS} do
      local entry = fake.live(world.redis, key)
      out[#out + 1] = ":" .. (entry and entry.ends - now or 0)
      for _, ticket in ipairs((fake.members(world.redis, key))) do out[#out + 1] = names[ticket] or "x" end
    end
    local fence = world.redis.keys[FENCE]
    out[#out + 1] = fence and math.max(tonumber(fence.text) - now, 0) or "none"
    return table.concat(out, " ")
  end

  local TICK = 2500000
  local explored = actions_of(2, function() return TICK end, always)

  local function explore(world, depth)
    if depth == 0 then return 0 end
    local steps = 0
    for _, act in ipairs(explored) do
      local after = copy_world(world)
      act(after)
      check(after)
      steps = steps + 1 + explore(after, depth - 1)
    end
    return steps
  end

  it("those that live get it in their order, one at a time, with rising fences: all sequences of 4", function()
    assert.are.equal(41370, explore(first_world(3), 4))
  end)

  it("the same holds for three that wait and one that does not, equal situations explored once", function()
    local actions = actions_of(3, function() return TICK end, always)
    local frontier, seen, steps = {first_world(4)}, {}, 0
    for _ = 1, tonumber(os.getenv("DEPTH") or 6) do
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
    assert.is_true(steps > 20000, "only " .. steps .. " steps")
  end)

  it("and for six over random steps of time", function()
    math.randomseed(20260101)
    local spans = {1, 400, 1000, TICK // 1000, BEAT // 1000, 20000} -- ms: the lives of keys are of whole ones
    local actions = actions_of(6, function() return math.random(0, spans[math.random(#spans)]) * 1000 end,
      function() return math.random(30) == 1 end)
    for client = 1, 6 do -- who waits and releases more often than it dies or gives up
      for _ = 1, 3 do actions[#actions + 1] = function(world) ask(world, client, true) end end
    end
    for _ = 1, 12 do
      actions[#actions + 1] = function(world) for client = 1, 7 do release(world, client) end end
    end
    local world, gave = first_world(7), 0
    for _ = 1, steps_of(30000, 30000) do
      local before = world.highest
      actions[math.random(#actions)](world)
      if math.random(4) == 1 then world.redis.now = world.redis.now + math.random(0, 300) * 1000 end
      check(world)
      if world.highest > before then gave = gave + 1 end
    end
    assert.is_true(gave > 1000, "it was given " .. gave .. " times")
  end)
end)
