-- SPDX-License-Identifier: MIT
-- That no wake-up is lost: the lock's scripts beside a model of what clients do with the messages (the same rule as in
-- core/src/engine/wakeups.h), in every interleaving of two clients whose waiters come, are woken, give up or are
-- cancelled, and of a stranger who takes the lock and does not wait.  Time stands still: nothing is owed to a lease that
-- ends.  And that the scripts of the other patterns set, take away and tell as that rule needs it, on a real server.
local here = debug.getinfo(1, "S").source:match("^@(.*/)") or "./"
package.path = here .. "support/?.lua;" .. package.path
local scripts = require "scripts"
local server = require "server"
local fake = require "fake_redis"

describe("whoever waits for a lock", function()
  local LOCK, FENCE = "redmoon:{n}:lock", "redmoon:{n}:fence"
  local QUEUE, BEATS = "redmoon:{n}:lock.queue", "redmoon:{n}:lock.beats"
  local OK, HELD = 1, 0
  local run = {}
  for _, name in ipairs {"lock_acquire", "lock_acquire_fair", "lock_release"} do
    run[name] = fake.compile(scripts.expand(name), name)
  end

  -- A waiter: {id, fair, state = "away", "asleep", "polls", "holds" or "gone"; told}.
  local function first_world(kinds)
    local world = {redis = fake.new_state(), clients = {}}
    for i, list in ipairs(kinds) do
      local client = {inbox = {}, all = {}, queue = {}}
      for j, kind in ipairs(list) do
        client.all[j] = {id = "c" .. i .. j, fair = kind == "fair", state = "away", told = false}
      end
      world.clients[i] = client
    end
    return world
  end

  local function copy_world(world)
    local out = {redis = fake.copy(world.redis), stranger = world.stranger, clients = {}}
    for i, client in ipairs(world.clients) do
      local copy = {inbox = {table.unpack(client.inbox)}, queue = {table.unpack(client.queue)}, all = {}}
      for j, w in ipairs(client.all) do
        copy.all[j] = {id = w.id, fair = w.fair, state = w.state, told = w.told}
      end
      out.clients[i] = copy
    end
    return out
  end

  local function take(world, id, fair, stays, others)
    local keys = fair and {LOCK, FENCE, QUEUE, BEATS} or {LOCK, FENCE, BEATS}
    local args = {id, "60000", id, "0", stays and "1" or "0", others and "1" or "0"}
    return run[fair and "lock_acquire_fair" or "lock_acquire"](world.redis, keys, args)[1]
  end

  local function tell_next(client, after)
    for place = after + 1, #client.queue do
      local w = client.all[client.queue[place]]
      if not w.fair and not w.told then
        w.told = true
        return
      end
    end
  end

  local function place_of(client, j)
    for place, other in ipairs(client.queue) do if other == j then return place end end
  end

  local function leave(client, j, passes)
    local place = place_of(client, j)
    if passes or client.all[j].told then tell_next(client, place) end
    client.all[j].told = false
    table.remove(client.queue, place)
  end

  -- One attempt of a waiter; `last`: it gives up when it is refused.
  local function ask(world, client, j, last)
    local w = client.all[j]
    local joined, owes = w.state ~= "away", w.told
    w.told = false
    local answer = take(world, w.id, w.fair, not last, joined and #client.queue > 1)
    if answer == OK then
      if joined then leave(client, j, false) end
      w.state = "holds"
    elseif last then
      leave(client, j, owes)
      w.state = "gone"
    else
      if not joined then client.queue[#client.queue + 1] = j end
      w.state = answer == HELD and "asleep" or "polls"
    end
  end

  -- A second message of a kind is all that the model keeps: with more of them it only gets easier.
  local function arrive(inbox, payload)
    local same = 0
    for _, other in ipairs(inbox) do if other == payload then same = same + 1 end end
    if same < 2 then inbox[#inbox + 1] = payload end
  end

  local function release(world, id)
    world.redis.published = {}
    assert(run.lock_release(world.redis, {LOCK}, {id, id})[1] == OK)
    for _, message in ipairs(world.redis.published) do
      assert(message[1] == LOCK)
      for _, client in ipairs(world.clients) do arrive(client.inbox, message[2]) end
    end
    world.redis.published = nil
  end

  local function deliver(client)
    local payload = table.remove(client.inbox, 1)
    for _, j in ipairs(client.queue) do
      local w = client.all[j]
      if w.fair and w.id == payload then w.told = true end
    end
    tell_next(client, 0)
  end

  -- What can happen next.
  local function actions_of(world)
    local out = {}
    local function add(act) out[#out + 1] = act end
    if world.stranger then
      add(function(after) release(after, "x") after.stranger = nil end)
    elseif not fake.live(world.redis, LOCK) then
      add(function(after) after.stranger = take(after, "x", false, false, false) == OK or nil end)
    end
    for i, client in ipairs(world.clients) do
      if #client.inbox > 0 then add(function(after) deliver(after.clients[i]) end) end
      for j, w in ipairs(client.all) do
        if w.state == "away" or w.told or w.state == "polls" then
          add(function(after) ask(after, after.clients[i], j, false) end)
        end
        if w.state == "asleep" or w.state == "polls" then
          add(function(after) ask(after, after.clients[i], j, true) end)
          if not w.fair then -- the ticket of one that is cancelled is in the way until it ends: time would have to pass
            add(function(after)
              leave(after.clients[i], j, false)
              after.clients[i].all[j].state = "gone"
            end)
          end
        end
        if w.state == "holds" then
          add(function(after)
            release(after, w.id)
            after.clients[i].all[j].state = "gone"
          end)
        end
      end
    end
    return out
  end

  local function check(world)
    local lock = fake.live(world.redis, LOCK)
    local marked = lock and lock.hash.waits
    local head = fake.members(world.redis, QUEUE)[1]
    for i, client in ipairs(world.clients) do
      local comes, sleeps = #client.inbox > 0, false
      for _, j in ipairs(client.queue) do
        local w = client.all[j]
        if not w.fair then
          comes = comes or w.told or w.state == "polls"
          sleeps = sleeps or w.state == "asleep"
        elseif w.id == head and not lock then
          local meant = w.told or w.state == "polls"
          for _, payload in ipairs(client.inbox) do meant = meant or payload == w.id end
          assert(meant, w.id .. " is next, the lock is free, and nobody tells it")
        elseif w.id == head and not w.told and w.state == "asleep" then
          assert(marked == w.id, w.id .. " is next, and a release would not tell it")
        end
      end
      assert(not sleeps or comes or marked, "client " .. i .. " sleeps, and nothing will wake it")
    end
  end

  local function fingerprint(world)
    local lock, out = fake.live(world.redis, LOCK), {}
    out[1] = lock and lock.hash.owner .. "/" .. (lock.hash.waits or "-") or "free"
    out[2] = table.concat(fake.members(world.redis, QUEUE), ",")
    for _, client in ipairs(world.clients) do
      out[#out + 1] = table.concat(client.inbox, ",") .. "#" .. #client.inbox .. "#" .. table.concat(client.queue, ",")
      for _, w in ipairs(client.all) do out[#out + 1] = w.state .. (w.told and "!" or "") end
    end
    return table.concat(out, " ")
  end

  local function explore(kinds)
    local frontier, seen, count = {first_world(kinds)}, {}, 0
    while #frontier > 0 do
      local reached = {}
      for _, world in ipairs(frontier) do
        for _, act in ipairs(actions_of(world)) do
          local after = copy_world(world)
          act(after)
          check(after)
          local situation = fingerprint(after)
          if not seen[situation] then
            seen[situation] = true
            count = count + 1
            reached[#reached + 1] = after
          end
        end
      end
      frontier = reached
    end
    return count
  end

  for name, kinds in pairs {
    ["without turns"] = {{"plain", "plain"}, {"plain"}},
    ["in turn"] = {{"fair", "fair"}, {"fair"}},
    ["both ways"] = {{"plain", "fair"}, {"plain"}},
  } do
    it(name .. " is always told: all situations that can come about", function()
      local count = explore(kinds)
      print(name .. ": " .. count .. " situations")
      assert.is_true(count > 500)
    end)
  end
end)

describe("the mark of those who wait", function()
  local redis, stop, connect
  setup(function() redis, stop, connect = server.start() end)
  teardown(function() stop() end)
  before_each(function() redis:call("FLUSHALL") end)

  local function run(name, keys, ...)
    local words = {"EVAL", scripts.expand(name), #keys}
    for _, word in ipairs(keys) do words[#words + 1] = word end
    for _, word in ipairs {...} do words[#words + 1] = word end
    return redis:call(table.unpack(words))
  end

  -- What is published while `act` runs, as "channel payload".
  local function published(act)
    local listener = connect()
    listener:call("PSUBSCRIBE", "*")
    act()
    redis:call("PUBLISH", "end", "")
    local out = {}
    repeat
      local message = listener:receive()
      out[#out + 1] = message[3] .. " " .. message[4]
    until message[3] == "end"
    listener:close()
    out[#out] = nil
    return out
  end

  local S, SF, SW = "redmoon:{s}:semaphore", "redmoon:{s}:semaphore.fence", "redmoon:{s}:semaphore.waits"

  it("of a semaphore is set by who stays, and its release tells once", function()
    run("semaphore_acquire", {S, SF, SW}, "a", 1, 1, 60000, 0)
    run("semaphore_acquire", {S, SF, SW}, "b", 1, 1, 60000, 0)
    assert.are.equal(0, redis:call("EXISTS", SW))
    run("semaphore_acquire", {S, SF, SW}, "b", 1, 2, 60000, 1) -- there never are so many
    assert.are.equal(0, redis:call("EXISTS", SW))
    run("semaphore_acquire", {S, SF, SW}, "b", 1, 1, 60000, 1)
    local left = redis:call("PTTL", SW)
    assert.is_true(left > 0 and left <= 10000)
    assert.are.same({SW .. " "}, published(function()
      assert.are.equal(1, run("permit_release", {S, SW}, "a", 1, 0)[1])
      run("semaphore_acquire", {S, SF, SW}, "b", 1, 1, 60000, 0)
      assert.are.equal(1, run("permit_release", {S, SW}, "b", 1, 0)[1])
    end))
  end)

  local R, W, WT = "redmoon:{l}:rwlock.readers", "redmoon:{l}:rwlock.writer", "redmoon:{l}:rwlock.waiting"
  local WF, WW = "redmoon:{l}:rwlock.fence", "redmoon:{l}:rwlock.waits"

  it("of a read-write lock is told by the last reader and by the writer", function()
    for _, token in ipairs {"a", "b"} do run("rwlock_read", {R, W, WT, WW}, token, 60000, "", 0) end
    run("rwlock_write", {R, W, WT, WF, WW}, "w", 60000, 0)
    assert.are.equal(0, redis:call("EXISTS", WW))
    run("rwlock_write", {R, W, WT, WF, WW}, "w", 60000, 1000)
    assert.are.equal(1, redis:call("EXISTS", WW))
    assert.are.same({}, published(function() run("permit_release", {R, WW}, "a", 1, 1) end))
    assert.are.same({WW .. " "}, published(function() run("permit_release", {R, WW}, "b", 1, 1) end))
    assert.are.equal(1, run("rwlock_write", {R, W, WT, WF, WW}, "w", 60000, 0)[1])
    run("rwlock_read", {R, W, WT, WW}, "a", 60000, "", 0)
    assert.are.equal(0, redis:call("EXISTS", WW))
    run("rwlock_read", {R, W, WT, WW}, "a", 60000, "", 1)
    assert.are.same({WW .. " "}, published(function() run("rwlock_release", {W, WW}, "w") end))
    assert.are.equal(0, redis:call("EXISTS", WW))
  end)

  local E, L, CW = "redmoon:{k}:c.cache", "redmoon:{k}:c.cache+lease", "redmoon:{k}:c.cache+waits"
  local entry = "\201RC\1" .. string.pack(">I1I1I2I8I6I6I4I8", 0, 0, 0, 1, 60000, 60000, 5, 0) .. "v"

  it("of a cache is set by who gets nothing, and told by a put, a release, a set and a deletion", function()
    local ends = {
      function() run("cache_put", {E, L, CW}, "a", entry, 60000) end,
      function() run("cache_put", {E, L, CW}, "a", "", 0) end,
      function() run("cache_put", {E, L, CW}, "", entry, 60000) end,
      function() redis:call("DEL", L) run("cache_put", {E, L, CW}, "", entry, 60000) end,
      function() run("cache_release", {L, CW}, "a", 0) end,
      function() run("cache_release", {L, CW}, "a", 5000) end,
      function() run("cache_delete", {E, L, CW}) end,
    }
    for i, act in ipairs(ends) do
      redis:call("FLUSHALL")
      run("cache_lease", {E, L, CW}, "a", 60000, "", "", "load")
      assert.are.equal(0, redis:call("EXISTS", CW))
      assert.are.same({}, published(act), i) -- nobody waits
      redis:call("FLUSHALL")
      run("cache_lease", {E, L, CW}, "a", 60000, "", "", "load")
      assert.are.equal(0, run("cache_lease", {E, L, CW}, "b", 60000, "", "", "load")[1])
      assert.are.equal(1, redis:call("EXISTS", CW))
      assert.are.same({CW .. " "}, published(act), i)
      assert.are.equal(0, redis:call("EXISTS", CW))
    end
  end)

  it("is taken away though its owner may not publish", function()
    local LOCK, FENCE, BEATS = "redmoon:{n}:lock", "redmoon:{n}:fence", "redmoon:{n}:lock.beats"
    run("lock_acquire", {LOCK, FENCE, BEATS}, "a", 60000, "1", 0)
    run("lock_acquire", {LOCK, FENCE, BEATS}, "b", 60000, "2", 0, 1, 0)
    assert.are.equal("", redis:call("HGET", LOCK, "waits"))
    redis:call("ACL", "SETUSER", "mute", "on", ">pw", "~*", "+@all", "-publish", "resetchannels")
    local mute = connect()
    mute:call("AUTH", "mute", "pw")
    assert.are.same({1}, mute:call("EVAL", scripts.expand("lock_release"), 1, LOCK, "a", "1"))
    mute:close()
    assert.are.equal(0, redis:call("EXISTS", LOCK))
  end)
end)
