-- SPDX-License-Identifier: MIT
-- The queue's scripts on a real server, in virtual time, beside a model that keeps every job.
local here = debug.getinfo(1, "S").source:match("^@(.*/)") or "./"
package.path = here .. "support/?.lua;" .. package.path
local scripts = require "scripts"
local server = require "server"
local Model = require "queue_model"
local steps_of = require "steps"

local SECOND = 1000000
local START = 1760000000 * SECOND
local SCRIPTS = {push = true, push_bundle = false, pop = true, ack = true, ack_many = true, nack = true, release = false,
  extend = true, progress = false, stats = true, pause = false, dead = false, redrive = false, peek = true, remove = true,
  purge = false, check = false, limits = false}
local KEYS = {
  push = "jobs state ready delayed done wake groups", push_bundle = "jobs state ready wake",
  pop = "jobs state ready delayed leased dead done wake groups",
  ack = "jobs state ready delayed leased dead done wake groups",
  ack_many = "jobs state ready delayed leased dead done wake groups",
  nack = "jobs state ready delayed leased dead wake groups", limits = "jobs state wake groups",
  release = "jobs ready leased wake state groups", extend = "jobs leased", progress = "jobs leased",
  stats = "state ready delayed leased dead done groups", pause = "state wake", dead = "jobs dead",
  redrive = "jobs state ready dead wake groups", peek = "jobs ready delayed leased dead done groups",
  remove = "jobs state ready delayed leased dead done wake groups", check = "jobs ready delayed leased dead done groups",
}
local PARTS = {"jobs", "state", "ready", "delayed", "leased", "dead", "done", "wake", "groups"}

describe("queue", function()
  local redis, stop, sha
  setup(function()
    redis, stop = server.start()
    sha = {}
    for name, timed in pairs(SCRIPTS) do
      local text = timed and scripts.expand_timed("queue_" .. name) or scripts.expand("queue_" .. name)
      sha[name] = redis:call("SCRIPT", "LOAD", text)
    end
  end)
  teardown(function() stop() end)
  before_each(function() redis:call("FLUSHALL") end)

  local function key(name, part) return "redmoon:{" .. name .. "}:queue" .. part end

  local TELLS = {push = true, pop = true, ack = true, ack_many = true, nack = true, release = true, progress = true,
    redrive = true, remove = true, pause = true}
  local told = {} -- names of the queues whose events are wanted

  -- The command that runs a script on the queue `name`.
  local function command(now, name, verb, args, keys, request)
    local out = {"EVALSHA", sha[verb], 0}
    for part in (keys or KEYS[verb]):gmatch("%a+") do out[#out + 1] = key(name, "." .. part) end
    if request then out[#out + 1] = key(name, (verb == "pop" and ".pop" or "") .. "+req." .. request) end
    local tells = told[name] and TELLS[verb]
    if tells then out[#out + 1] = key(name, ".events") end
    out[3] = #out - 3
    for _, arg in ipairs(args) do out[#out + 1] = arg end
    if tells then out[#out + 1] = 1000000 end
    if SCRIPTS[verb] then out[#out + 1] = now end
    return out
  end

  local function run(now, verb, ...) return redis:call(table.unpack(command(now, "q", verb, {...}))) end

  -- One job as the script takes it.
  local function job(id, options)
    options = options or {}
    return {id, options.payload or ("payload of " .. id), options.priority or 0, options.delay or 0,
      options.attempts or 10, options.crashes or 3,
      (options.unique or "") .. (options.group and "\0" .. options.group or "")}
  end
  local function push(now, ...)
    local args = {}
    for _, item in ipairs {...} do table.move(item, 1, 7, #args + 1, args) end
    return run(now, "push", table.unpack(args))
  end
  -- The lengths of payloads as the script takes them.
  local function lengths(payloads)
    local list = {}
    for i, payload in ipairs(payloads) do list[i] = (">I2"):pack(#payload) end
    return table.concat(list)
  end
  local function base_of(number) return ("%020x"):format(number) end
  -- Jobs "<base>-00" and so on, `count` in each bundle.
  local function push_bundles(priority, ...)
    local args = {priority, 10, 3}
    for i, count in ipairs {...} do
      local payloads = {}
      for k = 1, count do payloads[k] = ("payload %d of %d"):format(k, i) end
      table.move({base_of(i), lengths(payloads), table.concat(payloads)}, 1, 3, #args + 1, args)
    end
    return run(0, "push_bundle", table.unpack(args))
  end
  local function pop(now, count, lease) return run(now, "pop", count or 1, lease or 30000, "0", "0") end
  local function ids(answer)
    local list = {}
    for i = 4, #answer, 4 do list[#list + 1] = answer[i]:match("^%Z*") end
    return list
  end

  local function check(name)
    local wrong, looked = {}, 0
    for which = 0, 6 do
      local cursor = "0"
      repeat
        local answer = redis:call(table.unpack(command(0, name, "check", {which, cursor, 100})))
        assert.is_nil(answer.err)
        cursor, looked = answer[2], looked + answer[3]
        for i = 4, #answer do wrong[#wrong + 1] = answer[i] end
      until cursor == "0"
    end
    return wrong, looked
  end

  -- What a key holds.  The order in a large hash changes when it is read.
  local function dump(name, part) return {part == "jobs" and "HGETALL" or "DUMP", key(name, "." .. part)} end
  local function sorted(reply)
    if type(reply) ~= "table" then return reply or "" end
    local list = {}
    for i = 1, #reply, 2 do list[#list + 1] = ("%q = %q"):format(reply[i], reply[i + 1]) end
    table.sort(list)
    return table.concat(list, "\n")
  end

  local function dumps(name)
    local list = {}
    for i, part in ipairs(PARTS) do list[i] = sorted(redis:call(table.unpack(dump(name, part)))) end
    return list
  end

  local seed = math.tointeger(os.getenv("SEED") or 20261125)
  local steps = steps_of(40000)
  print("SEED=" .. seed .. " STEPS=" .. steps)

  -- A lease that was given, often one that is over or was taken back by now.
  local function some_lease(world)
    local lease = world.leases[#world.leases - math.random(0, math.min(#world.leases, 8) - 1)]
    return lease[1], lease[2]
  end

  -- The id of a job that was pushed, one by one or in a bundle.
  local function some_id(world)
    local bundled = world.bundled
    if #bundled > 0 and math.random(3) == 1 then return bundled[#bundled - math.random(0, math.min(#bundled, 60) - 1)] end
    return "j" .. math.random(world.ids)
  end

  local function random_push(world, model, now)
    local items, args = {}, {}
    for _ = 1, math.random(4) == 1 and math.random(5) or 1 do
      local id = math.random(8) == 1 and some_id(world) or "j" .. world.ids + 1
      if id == "j" .. world.ids + 1 then world.ids = world.ids + 1 end
      items[#items + 1] = job(id, {priority = math.random(3) == 1 and math.random(0, 1023) or math.random(0, 2),
        delay = math.random(4) == 1 and math.random(1, 5000) or 0, attempts = math.random(3), crashes = math.random(3),
        unique = math.random(4) == 1 and "u" .. math.random(6) or "", group = world.groups and math.random(3) > 1
        and "g" .. math.random(world.groups) or nil})
      table.move(items[#items], 1, 7, #args + 1, args)
      local unique, group = items[#items][7]:match("^(%Z*)%z(.+)$")
      if group then items[#items][7], items[#items][8] = unique, group end
    end
    local request = math.random(6) == 1 and "r" .. math.random(world.ids) or nil
    return command(now, world.name, "push", args, nil, request), model:push(now, items, request)
  end

  local function note_leases(world, answer, from)
    for i = from, #answer, 4 do
      world.leases[#world.leases + 1] = {answer[i]:match("^%Z*"), answer[i + 1]}
    end
  end

  -- Limits of all groups, mostly the same; and how they are sent.
  local function some_limits(world)
    local limits = math.random(20) == 1 and {math.random(0, 3), math.random(0, 3), math.random(1, 3000)} or world.limits
    return limits, (limits[1] > 0 or limits[2] > 0) and limits or {}
  end

  local verbs = {}
  function verbs.limits(world, model, now)
    local own = {"g" .. math.random(world.groups or 1), math.random(-1, 3), math.random(-1, 3), math.random(1, 3000)}
    return command(now, world.name, "limits", own), model:limits(now, table.unpack(own))
  end
  function verbs.push(world, model, now) return random_push(world, model, now) end
  function verbs.push_bundle(world, model, now)
    local priority, attempts, crashes = math.random(0, 2), math.random(3), math.random(3)
    local args, items = {priority, attempts, crashes}, {}
    for _ = 1, math.random(3) do
      world.bases = world.bases + 1
      local base, payloads = base_of(world.bases), {}
      for i = 1, math.random(math.random(10) == 1 and 50 or 4) do
        local id = ("%s-%02d"):format(base, i - 1)
        payloads[i] = ("x"):rep(math.random(0, 40))
        items[#items + 1] = {id, payloads[i], priority, 0, attempts, crashes, ""}
        world.bundled[#world.bundled + 1] = id
      end
      table.move({base, lengths(payloads), table.concat(payloads)}, 1, 3, #args + 1, args)
    end
    local request = math.random(4) == 1 and "r" .. math.random(world.ids) or nil
    local before = request and model.requests[request]
    model:push(now, items, request, true)
    return command(now, world.name, "push_bundle", args, nil, request), before or {1}
  end
  function verbs.pop(world, model, now)
    local count, lease = math.random(3) == 1 and 3 or 1, math.random(3) == 1 and 30000 or math.random(1, 3000)
    local waits, keeps = math.random(2) == 1, math.random(3) == 1
    local request = math.random(5) == 1 and "p" .. world.ids + math.random(-2, 1) or nil
    local answer
    local limits, tail = some_limits(world)
    if request then answer = model:request(now, count, lease, waits, keeps, limits, request)
    else answer = model:pop(now, count, lease, waits, keeps, limits) end
    note_leases(world, answer, 4)
    return command(now, world.name, "pop", {count, lease, waits and 1 or 0, keeps and 1 or 0, table.unpack(tail)}, nil,
      request), answer
  end
  function verbs.ack(world, model, now)
    local id, epoch = some_lease(world)
    local retention, count = math.random(2) == 1 and math.random(4000) or 0, math.random(3) == 1 and math.random(2) or 0
    local limits, tail = some_limits(world)
    local answer = model:ack(now, id, epoch, retention, "result " .. id, count, 2000, limits)
    note_leases(world, answer, 4)
    local args = {id, epoch, retention, "result " .. id, count, 2000, table.unpack(tail)}
    return command(now, world.name, "ack", args), answer
  end
  function verbs.ack_many(world, model, now)
    local list = {}
    for i = 1, math.random(4) do list[2 * i - 1], list[2 * i] = some_lease(world) end
    local retention = math.random(2) == 1 and math.random(4000) or 0
    local count = math.random(3) == 1 and math.random(2) or 0
    local limits, tail = some_limits(world)
    local answer = model:ack_many(now, retention, count, 2000, list, limits)
    note_leases(world, answer, 2 + #list // 2 + 2)
    table.move(tail, 1, #tail, #list + 1, list)
    return command(now, world.name, "ack_many", {retention, count, 2000, table.unpack(list)}), answer
  end
  function verbs.nack(world, model, now)
    local id, epoch = some_lease(world)
    local delay, fatal = math.random(3) == 1 and 0 or math.random(3000), math.random(10) == 1
    return command(now, world.name, "nack", {id, epoch, delay, "why " .. id, fatal and 1 or 0}),
      model:nack(now, id, epoch, delay, "why " .. id, fatal)
  end
  function verbs.release(world, model, now)
    local list = {some_lease(world)}
    if math.random(2) == 1 then list[3], list[4] = some_lease(world) end
    return command(now, world.name, "release", list), model:release(now, list)
  end
  function verbs.extend(world, model, now)
    local lease, list = math.random(1, 3000), {some_lease(world)}
    if math.random(2) == 1 then list[3], list[4] = some_lease(world) end
    return command(now, world.name, "extend", {lease, table.unpack(list)}), model:extend(now, lease, list)
  end
  function verbs.progress(world, model, now)
    local id, epoch = some_lease(world)
    return command(now, world.name, "progress", {id, epoch, "half"}), model:progress(now, id, epoch, "half")
  end
  function verbs.stats(world, model, now) return command(now, world.name, "stats", {}), model:stats(now) end
  function verbs.pause(world, model, now)
    local on = math.random(3) == 1
    return command(now, world.name, "pause", {on and 1 or 0}), model:pause(now, on)
  end
  function verbs.dead(world, model, now)
    local skip, count = math.random(0, 2), math.random(5)
    return command(now, world.name, "dead", {skip, count}), model:dead(now, skip, count)
  end
  function verbs.redrive(world, model, now)
    local skip, count = math.random(0, 1), math.random(3)
    return command(now, world.name, "redrive", {skip, count}), model:redrive(now, skip, count)
  end
  function verbs.peek(world, model, now)
    local id = some_id(world)
    return command(now, world.name, "peek", {id}), model:peek(now, id)
  end
  function verbs.remove(world, model, now)
    local id = some_id(world)
    return command(now, world.name, "remove", {id}), model:remove(now, id)
  end
  function verbs.purge(world, model, now)
    local state = ({"ready", "delayed", "dead", "done"})[math.random(4)]
    local keys = "jobs state " .. state .. (state == "ready" and " groups" or "")
    return command(now, world.name, "purge", {state == "done" and 1 or 0}, keys), model:purge(now, state)
  end
  -- A worker that waits is woken: the marker is taken.
  function verbs.wake(world, model)
    local there = model.wake
    model.wake = false
    return {"ZPOPMIN", key(world.name, ".wake")}, there and {"wake", "0"} or {}
  end

  local DICE = {}
  for verb, weight in pairs {push = 30, push_bundle = 3, pop = 30, ack = 12, ack_many = 5, nack = 10, release = 4,
    extend = 5, progress = 2, stats = 4, pause = 3, dead = 2, redrive = 2, peek = 5, remove = 2, purge = 1, limits = 2,
    wake = 10} do
    for _ = 1, weight do DICE[#DICE + 1] = verb end
  end
  table.sort(DICE)

  local REFUSED = {ack = true, ack_many = true, nack = true, progress = true, remove = true}

  local function same(got, want)
    if type(got) ~= "table" or got.err or #got ~= #want then return false end
    for i = 1, #want do
      if got[i] ~= want[i] then return false end
    end
    return true
  end
  local function shown(list)
    if type(list) ~= "table" then return tostring(list) end
    local out = {}
    for i = 1, #list do out[i] = tostring(list[i]) end
    return list.err or table.concat(out, " ")
  end

  it("answers as the model over random steps; each job is in one place; what is refused changes nothing", function()
    math.randomseed(seed)
    local done, round, refused, died = 0, 0, 0, 0
    local began = os.time()
    while done < steps do
      round = round + 1
      local model, now = Model.new(), START
      local world = {name = "q" .. round, ids = 1, leases = {{"nobody", 1}}, bases = 0, bundled = {}}
      world.groups = round % 3 > 0 and 1 + round % 7 or nil
      told[world.name] = round % 2 == 0
      world.limits = {math.random(0, 3), math.random(0, 3), math.random(1, 3000)}
      local commands, expected = {}, {}
      for _ = 1, 400 do
        local dice = math.random(20)
        if dice == 1 then now = now - math.random(0, 4 * SECOND) -- the clock is set back
        elseif dice <= 10 then now = now + math.random(0, 400000)
        elseif dice == 11 then now = now + math.random(0, 5 * SECOND) end
        local verb = DICE[math.random(#DICE)]
        local sent, answer = verbs[verb](world, model, now)
        local looks = REFUSED[verb] and answer[1] < 1 and math.random(4) == 1
        if looks then
          for _, part in ipairs(PARTS) do commands[#commands + 1] = dump(world.name, part) end
        end
        commands[#commands + 1] = sent
        if looks then
          for _, part in ipairs(PARTS) do commands[#commands + 1] = dump(world.name, part) end
        end
        expected[#expected + 1] = {answer = answer, verb = verb, looks = looks, now = now}
      end
      local replies, at = redis:batch(commands), 0
      for i, want in ipairs(expected) do
        if want.looks then at = at + #PARTS end
        at = at + 1
        if not same(replies[at], want.answer) then
          error(("round %d, step %d (%s) at %d: %s, the model says %s"):format(round, i, want.verb, want.now,
            shown(replies[at]), shown(want.answer)))
        end
        if want.looks then
          for part = 1, #PARTS do
            local before, after = replies[at - 1 - #PARTS + part], replies[at + part]
            assert(sorted(before) == sorted(after), "a refusal changed " .. PARTS[part])
          end
          at, refused = at + #PARTS, refused + 1
        end
      end
      assert.are.same({}, (check(world.name)))
      local events = {}
      for i, entry in ipairs(redis:call("XRANGE", key(world.name, ".events"), "-", "+")) do
        events[i] = ("%s %s %s"):format(entry[2][2], entry[2][4], entry[2][6])
      end
      assert.are.same(told[world.name] and model.events or {}, events)
      local stats = model:stats(now)
      died = died + stats[5]
      assert.are.equal(stats[7], stats[8] + stats[9] + stats[2] + stats[3] + stats[4] + stats[5])
      redis:call("FLUSHALL")
      done = done + #expected
    end
    assert.is_true(refused > steps // 100 and died > 0)
    if steps > 100000 then print(("%d steps, %d rounds in %d s"):format(done, round, os.time() - began)) end
  end)

  it("hands jobs out by priority, and in each in the order they came", function()
    for i = 1, 300 do push(START + i, job("a" .. i), job("b" .. i, {priority = 1023}), job("c" .. i, {priority = 7})) end
    local list = {}
    for _ = 1, 90 do for _, id in ipairs(ids(pop(START + 1000, 10))) do list[#list + 1] = id end end
    assert.are.equal(900, #list)
    for i = 1, 300 do
      assert.are.equal("b" .. i, list[i])
      assert.are.equal("c" .. i, list[300 + i])
      assert.are.equal("a" .. i, list[600 + i])
    end
  end)

  it("hands a delayed job out when it is due, and not a microsecond before", function()
    push(START + 999, job("late", {delay = 1500}))
    assert.are.same({}, ids(pop(START + 999 + 1500000 - 1)))
    assert.are.equal(1, pop(START + 999 + 1500000 - 1)[2]) -- so long may be waited
    assert.are.same({"late"}, ids(pop(START + 999 + 1500000)))
  end)

  it("gives a job whose lease is over to another, in its place; the first is told", function()
    push(START, job("x"), job("y"))
    local first = pop(START, 1, 1000)
    assert.are.same({"y"}, ids(pop(START + 999999, 1, 1000)))
    local second = pop(START + 1000000, 1, 1000)
    assert.are.same({"x"}, ids(second))
    assert.are.equal(2, second[6])
    assert.is_true(second[5] > first[5])
    local before = dumps("q")
    assert.are.same({-1}, run(START + 1000001, "ack", "x", first[5], 0, "", 1, 1000))
    assert.are.same({-1}, run(START + 1000001, "nack", "x", first[5], 0, "why", 1))
    assert.are.same({1, -1}, run(START + 1000001, "extend", 5000, "x", first[5]))
    assert.are.same({1, -1}, run(START + 1000001, "release", "x", first[5]))
    assert.are.same({-1}, run(START + 1000001, "progress", "x", first[5], "half"))
    assert.are.same(before, dumps("q"))
    assert.are.same({1}, run(START + 1000001, "ack", "x", second[5], 0, "", 0, 1000))
  end)

  it("an epoch never comes again, not even that of a job of the same id, or after the keys were lost", function()
    local last = 0
    for round = 1, 4 do
      push(START - round * 1000, job("same"))
      if round == 3 then last = pop(START)[5] end -- the clock is behind the last epoch afterwards
      if round == 4 then
        redis:call("FLUSHALL")
        push(START + 10 * SECOND, job("same"))
      end
      local epoch = round == 4 and pop(START + 10 * SECOND)[5] or round == 3 and last or pop(START)[5]
      assert.is_true(round == 3 or epoch > last)
      last = epoch
      assert.are.same({1}, run(START, "ack", "same", epoch, 0, "", 0, 1000))
    end
  end)

  it("gives a request that is repeated the same jobs, as long as they are leased to it", function()
    push(START, job("a"), job("b"), job("c"))
    local function request(now)
      return redis:call(table.unpack(command(now, "q", "pop", {2, 1000, 0, 0}, nil, "r")))
    end
    local first, again = request(START), request(START + 900000)
    assert.are.same({"a", "b"}, ids(first))
    assert.are.same({table.unpack(first, 4)}, {table.unpack(again, 4)})
    assert.are.same({"c"}, ids(pop(START + 1000000, 10))) -- their leases began anew
    run(START, "ack", "a", first[5], 0, "", 0, 1000)
    assert.are.same({"b"}, ids(request(START + 1100000)))
    assert.are.same({"b"}, ids(pop(START + 2200000, 1))) -- another has it now
    assert.are.same({-1}, request(START + 2200000))
  end)

  it("buries what crashed or failed too often, and brings it back", function()
    push(START, job("crash", {crashes = 2}), job("fail", {attempts = 2, unique = "k"}))
    pop(START, 2, 1)
    local again = pop(START + 1000, 2, 1)
    assert.are.same({"crash", "fail"}, ids(again))
    assert.are.same({1}, run(START + 1000, "nack", "fail", again[9], 0, "first", 0))
    local third = pop(START + 2000, 2, 1000)
    assert.are.same({"fail"}, ids(third))
    assert.are.same({2}, run(START + 2000, "nack", "fail", third[5], 1000, "second", 0))
    local dead = run(0, "dead", 0, 10)
    assert.are.same({1, 2, "crash", START + 2000, 0, 2, 0}, {table.unpack(dead, 1, 7)})
    assert.are.equal("its lease ended before it was done", dead[10])
    assert.are.same({"fail", "second"}, {dead[11], dead[18]})
    -- Its unique key is free; while another has it, it stays dead.
    assert.are.same({1, 1, "other"}, push(START + 3000, job("other", {unique = "k"})))
    assert.are.same({1, 1, 1}, run(0, "redrive", 0, 500))
    run(START, "remove", "other")
    assert.are.same({1, 1, 0}, run(0, "redrive", 0, 500))
    assert.are.same({1, 0, 0}, run(0, "redrive", 0, 500))
    assert.are.same({}, (check("q")))
  end)

  it("says of each job whether its id or its unique key is taken, and writes the others", function()
    push(START, job("a", {unique = "k"}), job("b"))
    local answer = push(START, job("a"), job("c", {unique = "k"}), job("d"), job("d"), job("e", {unique = "m"}),
      job("f", {unique = "m", payload = "lost"}))
    assert.are.same({1, 0, "a", -1, "a", 1, "d", 0, "d", 1, "e", -1, "e"}, answer)
    assert.are.same({"a", "b", "d", "e"}, ids(pop(START, 10)))
    assert.are.equal(0, redis:call("HEXISTS", key("q", ".jobs"), "pf"))
  end)

  it("keeps a result for its time, in which the id is taken", function()
    push(START, job("a", {unique = "k"}))
    local epoch = pop(START)[5]
    assert.are.same({1}, run(START, "ack", "a", epoch, 1000, "42", 0, 1000))
    assert.are.same({1}, run(START, "ack", "a", epoch, 1000, "42", 0, 1000)) -- said once more
    assert.are.equal("42", run(START + 999999, "peek", "a")[13])
    assert.are.same({1, 0, "a", 1, "b"}, push(START + 999999, job("a"), job("b", {unique = "k"})))
    assert.are.same({0}, run(START + 1000000, "peek", "a"))
    assert.are.same({1, 1, "a"}, push(START + 1000000, job("a")))
    assert.are.same({}, (check("q")))
  end)

  it("moves on 1,000 of a kind in one call, and hands out 500 at most", function()
    for batch = 0, 4 do
      local items = {}
      for i = 1, 500 do items[i] = job(("j%04d"):format(batch * 500 + i), {delay = 1}) end
      push(START, table.unpack(items))
    end
    local answer = pop(START + 1000, 500, 1)
    assert.are.equal(500, #ids(answer))
    local stats = run(START, "stats")
    assert.are.same({500, 1500, 500}, {stats[2], stats[3], stats[4]})
    for at = 1, 3 do pop(START + 1000 + at * 2000, 500, 1) end
    assert.are.same({}, (check("q")))
    local _, looked = check("q")
    assert.are.equal(2500, looked)
    assert.are.equal(2500, run(START, "stats")[7])
  end)

  it("refuses what is not acceptable, and leaves the data as it was", function()
    push(START, job("a"), job("b", {delay = 1000}))
    pop(START)
    local before = dumps("q")
    local cases = {
      {"push", ""}, {"push", "i", "p", 0, 0, 1, 1}, {"push", "", "p", 0, 0, 1, 1, ""},
      {"push", "i", "p", -1, 0, 1, 1, ""},
      {"push", "i", "p", 1024, 0, 1, 1, ""}, {"push", "i", "p", 0, -1, 1, 1, ""}, {"push", "i", "p", 0, 1.5, 1, 1, ""},
      {"push", "i", "p", 0, 315360000001, 1, 1, ""}, {"push", "i", "p", 0, 0, 0, 1, ""},
      {"push", "i", "p", 0, 0, 1, 1, "k\0"}, {"push", "i", "p", 0, 0, 1, 1, "k\0" .. ("g"):rep(129)},
      {"push", "i", "p", 0, 0, 1, 1, "\0g\0"}, {"pop", 1, 1000, 0, 0, -1, 0, 1}, {"pop", 1, 1000, 0, 0, 0, 1, 0},
      {"ack", "a", 1, 0, "", 1, 1000, 0, 0.5, 1}, {"ack_many", 0, 1, 1000, "a", 1, 1, 1, "x"},
      {"limits", "", 1, 1, 1}, {"limits", "a\0", 1, 1, 1}, {"limits", "a", -2, 1, 1}, {"limits", "a", 1, 1, 0},
      {"push", "i", "p", 0, 0, 1, 1, ("k"):rep(257)}, {"push", ("i"):rep(129), "p", 0, 0, 1, 1, ""},
      {"push", "i", "p", 0, 0, 1, 1, "", "k", "p", 0, 0, 1, "x", ""}, {"push", "i", "p", "nan", 0, 1, 1, ""},
      {"pop", 0, 1000, 0, 0}, {"pop", 501, 1000, 0, 0}, {"pop", 1, 0, 0, 0}, {"pop", 1, 86400001, 0, 0},
      {"pop", 1, "", 0, 0}, {"ack", "a", 1, -1, "", 0, 1000}, {"ack", "a", 1, 0, "", 501, 1000},
      {"ack_many", 0, 0, 1000}, {"ack_many", 0, 0, 1000, "a"}, {"ack_many", -1, 0, 1000, "a", 1},
      {"ack_many", 0, 501, 1000, "a", 1}, {"ack_many", 0, 0, 0, "a", 1},
      {"nack", "a", 1, -1, "", 0}, {"nack", "a", 1, "inf", "", 0}, {"release"}, {"release", "a"}, {"extend", 0, "a", 1},
      {"extend", 1000, "a"}, {"pause", 2}, {"dead", -1, 1}, {"dead", 0, 501}, {"redrive", 0, 0}, {"redrive", 0.5, 1},
      {"check", 7, 0, 1}, {"check", 0, 0, 0}, {"check", 0, "x", 1},
    }
    for _, case in ipairs(cases) do
      local answer = run(START, table.unpack(case))
      assert.is_truthy(answer.err and answer.err:find("ERR queue_" .. case[1], 1, true), table.concat(case, " "))
    end
    assert.are.same(before, dumps("q"))
    local one, base = lengths {"p"}, base_of(7)
    push_bundles(0, 1)
    local still = dumps("q")
    local function empty(count)
      local list = {}
      for i = 1, count do list[i] = "" end
      return list
    end
    local many = {0, 1, 1}
    for i = 1, 11 do table.move({base_of(100 + i), lengths(empty(i < 11 and 50 or 1)), ""}, 1, 3, #many + 1, many) end
    for _, case in ipairs {
      {0, 1, 1}, {0, 1, 1, base}, {0, 1, 1, base, one}, {-1, 1, 1, base, one, "p"}, {1024, 1, 1, base, one, "p"},
      {0, 0, 1, base, one, "p"}, {0, 1, 1000001, base, one, "p"}, {0, 1, "x", base, one, "p"},
      {0, 1, 1, base:sub(2), one, "p"}, {0, 1, 1, "g" .. base:sub(2), one, "p"}, {0, 1, 1, base, one, "pp"},
      {0, 1, 1, base, one, ""}, {0, 1, 1, base, "", ""}, {0, 1, 1, base, "\1", "p"}, {0, 1, 1, base, one .. one, "p"},
      {0, 1, 1, base, "\1\0", "p"}, {0, 1, 1, base, one .. "\0", "p"},
      {0, 1, 1, base, lengths(empty(51)), ""}, many,
      {0, 1, 1, base, one, "p", base, one, "p"}, {0, 1, 1, base_of(1), one, "p"}, -- twice, and there already
    } do
      local answer = run(START, "push_bundle", table.unpack(case))
      assert.is_truthy(answer.err and answer.err:find("ERR queue_push_bundle", 1, true), table.concat(case, " "))
    end
    assert.are.same(still, dumps("q"))
    pop(START)
    redis:call("HSET", key("q", ".state"), "seq", "4398046511102")
    still = dumps("q")
    assert.is_truthy(run(0, "push_bundle", 0, 1, 1, base, lengths {"", ""}, "").err)
    assert.is_truthy(run(0, "push_bundle", 0, 1, 1, base_of(1), one, "p").err) -- came apart
    assert.are.same(still, dumps("q"))
    assert.are.same({1}, run(0, "push_bundle", 0, 1, 1, base, one, "p")) -- the last place
    redis:call("HSET", key("q", ".state"), "seq", "4398046511103")
    assert.is_truthy(push(START, job("z")).err)
  end)

  it("keeps a bundle as two pieces until somebody takes one of its jobs, or asks for one", function()
    assert.are.same({1}, push_bundles(5, 50, 3))
    assert.are.same({4, 2}, {redis:call("HLEN", key("q", ".jobs")), redis:call("ZCARD", key("q", ".ready"))})
    push(START, job("low"), job("high", {priority = 6}))
    local function ready() return run(START, "stats")[2] end
    assert.are.equal(55, ready())
    assert.are.same({1, 1, 0, 5, 0, 0, 10, 3, 0, "payload 50 of 1", "", "", false, ""},
      run(START, "peek", base_of(1) .. "-49"))
    assert.are.same({0}, run(START, "peek", base_of(2) .. "-03"))
    assert.are.same({{}, 55}, {check("q")})
    assert.are.same({1, 0, base_of(2) .. "-02", 1, base_of(2) .. "-03"},
      push(START, job(base_of(2) .. "-02"), job(base_of(2) .. "-03")))
    local answer = pop(START, 3)
    assert.are.same({"high", base_of(1) .. "-00", base_of(1) .. "-01"}, ids(answer))
    assert.are.same({"payload 1 of 1", 1}, {answer[11], answer[10]})
    assert.are.equal(53, ready())
    assert.are.same({1}, run(START, "remove", base_of(2) .. "-00"))
    assert.are.same({1, 1}, run(START, "release", base_of(1) .. "-01", answer[13]))
    local rest = {}
    for _, id in ipairs(ids(pop(START, 500))) do rest[#rest + 1] = id:gsub("^0*", "") end
    assert.are.equal(53, #rest)
    assert.are.same({"1-01", "1-02", "1-49", "2-01", "2-02", "low", "2-03"},
      {rest[1], rest[2], rest[49], rest[50], rest[51], rest[52], rest[53]})
    assert.are.same({{}, 55}, {check("q")})
  end)

  it("answers a repeated request as the first, whichever of the scripts was asked", function()
    local function bundled(base, request)
      local args = {0, 1, 1, base, lengths {"a", "b"}, "ab"}
      return redis:call(table.unpack(command(0, "q", "push_bundle", args, nil, request)))
    end
    assert.are.same({1}, bundled(base_of(1), "r"))
    local first = {1, 1, base_of(1) .. "-00", 1, base_of(1) .. "-01"}
    for _, base in ipairs {base_of(1), base_of(2)} do assert.are.same(first, bundled(base, "r")) end
    assert.are.same(first, redis:call(table.unpack(command(START, "q", "push", job("x"), nil, "r"))))
    assert.are.same({1, 1, "y"}, redis:call(table.unpack(command(START, "q", "push", job("y"), nil, "s"))))
    assert.are.same({1, 1, "y"}, bundled(base_of(3), "s"))
    assert.are.equal(3, run(START, "stats")[7])
    assert.is_true(redis:call("PTTL", key("q", "+req.r")) > 590000)
  end)

  it("takes of bundles what a pop asks for, gives the rest back, and purges them", function()
    assert.are.same({1}, push_bundles(0, 50, 50, 50, 50, 50, 50, 50, 50, 50, 50))
    local list = ids(pop(START, 149))
    assert.are.equal(149, #list)
    assert.are.same({base_of(1) .. "-00", base_of(3) .. "-48"}, {list[1], list[149]})
    assert.are.equal(1 + 7, redis:call("ZCARD", key("q", ".ready")))
    assert.are.same({351, 149}, {run(START, "stats")[2], run(START, "stats")[4]})
    assert.are.same({{}, 500}, {check("q")})
    assert.are.same({1, 351, 0}, redis:call(table.unpack(command(0, "q", "purge", {0}, "jobs state ready groups"))))
    assert.are.same({0, 351}, {run(START, "stats")[2], run(START, "stats")[9]})
    assert.are.equal(2 * 149, redis:call("HLEN", key("q", ".jobs")))
    assert.are.same({}, (check("q")))
  end)

  it("takes few steps to find jobs of bundles, and single ones", function()
    local function moves(count)
      redis:call("CONFIG", "RESETSTAT")
      assert.are.equal(count, #ids(pop(START, count)))
      local stats, total = redis:call("INFO", "commandstats"), 0
      for name in ("zadd zpopmin"):gmatch("%a+") do
        total = total + (math.tointeger(stats:match("cmdstat_" .. name .. ":calls=(%d+)")) or 0)
      end
      return total
    end
    push_bundles(0, 50, 50, 50, 50, 50, 50, 50, 50, 50, 50)
    assert.is_true(moves(60) <= 6) -- two bundles, the rest of one, the leases, the marker
    assert.are.equal(40 + 8, redis:call("ZCARD", key("q", ".ready")))
    assert.is_true(moves(40) <= 10)
    assert.are.equal(8, redis:call("ZCARD", key("q", ".ready")))
    assert.is_true(moves(400) <= 12)
    assert.are.equal(0, run(START, "stats")[2])
    assert.are.same({{}, 500}, {check("q")})
  end)

  it("a bundle whose jobs were lost, as on a server that evicts keys, holds up nobody", function()
    for _, group in ipairs {false, "g"} do
      push_bundles(0, 3, 2)
      redis:call("DEL", key("q", ".jobs"))
      push(START, job("e"), job("f", {group = group or nil}))
      assert.are.same({"e", "f"}, ids(pop(START, 10)))
      assert.are.equal(0, run(START, "stats")[2])
      assert.are.same({}, (check("q")))
      redis:call("FLUSHALL")
    end
  end)

  it("sees what is wrong with bundles", function()
    push_bundles(0, 3)
    local jobs, ready, base = key("q", ".jobs"), key("q", ".ready"), base_of(1)
    local function wrong() return (table.concat((check("q")), " ")) end
    assert.are.equal("", wrong())
    redis:call("ZREM", ready, "\0" .. base .. "-03")
    assert.are.equal("in no place " .. base, wrong())
    redis:call("ZADD", ready, 1, "\0" .. base .. "-03")
    local value = redis:call("HGET", jobs, "b" .. base)
    for _, broken in ipairs {"", "\4", "\0" .. value:sub(2), value:sub(1, -3) .. "\xc1", value:sub(1, -2),
      "\2" .. value:sub(2), value:sub(1, -2) .. "\xc3"} do
      redis:call("HSET", jobs, "b" .. base, broken)
      assert.are.equal(("in no place %s no record %s"):format(base, base), wrong())
    end
    redis:call("HDEL", jobs, "b" .. base)
    assert.are.equal(("no record %s no record %s"):format(base, base), wrong())
    redis:call("HSET", jobs, "b" .. base, value)
    assert.are.equal("", wrong())
    redis:call("DEL", jobs)
    assert.are.equal("no record " .. base, wrong())
  end)

  it("serves groups in turn, and those without one as one more; a full group is in nobody's way", function()
    for i = 1, 4 do push(START, job("a" .. i, {group = "a"}), job("b" .. i, {group = "b"}), job("n" .. i)) end
    assert.are.same({"n1", "a1", "b1", "n2", "a2", "b2", "n3"}, ids(pop(START, 7)))
    local function limited(count, ...) return ids(run(START, "pop", count, 30000, "0", "0", ...)) end
    assert.are.same({"n4"}, limited(500, 2, 0, 1)) -- of a and b two run
    assert.are.same({1, 4, 0, 8, 0, 0, 12, 0, 0, 0, 30000000, 4, 0}, run(START, "stats"))
    local before = dumps("q")
    assert.are.same({}, limited(500, 2, 0, 1))
    assert.are.same(before[9], dumps("q")[9]) -- nobody looked at them
    redis:call(table.unpack(command(START, "q", "limits", {"b", 3, -1, 1})))
    assert.are.same({"b3"}, limited(500, 2, 0, 1))
    assert.are.same({}, (check("q")))
  end)

  it("a job of a group keeps its place in it, over delays, releases and leases that end", function()
    push(START, job("a1", {group = "a"}), job("a2", {group = "a"}), job("a0", {group = "a", priority = 1}))
    push(START, job("late", {group = "a", delay = 1}))
    local function one(now) return run(now, "pop", 1, 1000, "0", "0", 1, 0, 1) end
    local first = one(START)
    assert.are.equal("a0\0a", first[4])
    assert.are.same({1, 1}, run(START, "release", "a0", first[5]))
    assert.are.same({"a0"}, ids(one(START + 1000)))
    assert.are.same({}, ids(one(START + 1000)))
    local again = one(START + 1001000) -- its lease is over
    assert.are.same({"a0"}, ids(again))
    assert.are.same({1}, run(START + 1001000, "ack", "a0", again[5], 0, "", 0, 1000))
    local list, at = {}, START + 1001000
    for i = 1, 3 do
      local answer = one(at)
      list[i] = answer[4]:match("^%Z*")
      run(at, "ack", list[i], answer[5], 0, "", 0, 1000)
    end
    assert.are.same({"a1", "a2", "late"}, list)
    assert.are.equal(0, redis:call("EXISTS", key("q", ".groups")))
    assert.are.same({}, redis:call("HGETALL", key("q", ".jobs"))) -- nothing is left of the group
  end)

  it("no more jobs of a group begin in a window than may, and not a microsecond before it is over", function()
    for i = 1, 5 do push(START, job("a" .. i, {group = "a"})) end
    local function some(now) return run(now, "pop", 10, 30000, "1", "1", 0, 2, 700) end
    redis:call("DEL", key("q", ".wake"))
    assert.are.same({"a1", "a2"}, ids(some(START)))
    assert.are.equal(1, redis:call("EXISTS", key("q", ".wake"))) -- somebody has to keep the time
    local answer = some(START + 699999)
    assert.are.same({1, 1, 1}, answer) -- the keeper asks when the window is over
    assert.are.same({"a3", "a4"}, ids(some(START + 700000)))
    assert.are.same({"a5"}, ids(some(START + 1400000)))
    for i = 1, 5 do run(START, "remove", "a" .. i) end
    assert.are.same({1, 1000000, 0}, some(START + 9000000))
    assert.are.same({}, redis:call("HGETALL", key("q", ".jobs")))
  end)

  it("passes by ten thousand groups that are full", function()
    for batch = 0, 19 do
      local items = {}
      for i = 1, 500 do items[i] = job(("j%02d%03d"):format(batch, i), {group = "g" .. batch * 500 + i}) end
      push(START, table.unpack(items))
    end
    for _ = 1, 20 do run(START, "pop", 500, 30000, "0", "0", 1, 0, 1) end
    for batch = 0, 19 do
      local items = {}
      for i = 1, 500 do items[i] = job(("k%02d%03d"):format(batch, i), {group = "g" .. batch * 500 + i}) end
      push(START, table.unpack(items))
    end
    redis:call("CONFIG", "RESETSTAT")
    push(START, job("x", {group = "free"}))
    assert.are.same({"x"}, ids(run(START, "pop", 1, 30000, "0", "0", 1, 0, 1)))
    local calls = 0
    for count in redis:call("INFO", "commandstats"):gmatch("cmdstat_z%w+:calls=(%d+)") do calls = calls + count end
    assert.is_true(calls < 40, calls .. " calls")
    assert.are.same({}, (check("q")))
  end)

  it("sees what is wrong with groups", function()
    push(START, job("a", {group = "g"}), job("b", {group = "g"}))
    local lease = run(START, "pop", 1, 30000, "0", "0", 1, 5, 1000)
    assert.are.equal("a\0g", lease[4])
    local groups, jobs = key("q", ".groups"), key("q", ".jobs")
    local members = {}
    for _, member in ipairs(redis:call("ZRANGE", groups, 0, -1)) do members[member:sub(1, 1)] = member end
    local record = redis:call("HGET", jobs, "gg")
    local function wrong() return (table.concat((check("q")), " ")) end
    local function without(kind, text)
      redis:call("ZREM", groups, members[kind])
      assert.is_truthy(wrong():find(text, 1, true), wrong())
      redis:call("ZADD", groups, 0, members[kind])
      assert.are.equal("", wrong())
    end
    without("r", "not counted in its group a")
    without("w", "in no place b")
    without("x", "window lost g")
    redis:call("HDEL", jobs, "gg")
    assert.is_truthy(wrong():find("waits for no turn b", 1, true))
    redis:call("HSET", jobs, "gg", record)
    redis:call("ZADD", groups, 0, "t0000000000000001g")
    assert.are.equal("turn of no group g has a turn, and cannot take it g", wrong())
    redis:call("ZREM", groups, "t0000000000000001g")
    redis:call("ZADD", key("q", ".ready"), 1, "b")
    assert.is_truthy(wrong():find("among those without a group b", 1, true))
    redis:call("ZREM", key("q", ".ready"), "b")
    redis:call("ZADD", groups, 0, "rg\0ghost")
    assert.is_truthy(wrong():find("no record ghost", 1, true))
    redis:call("ZREM", groups, "rg\0ghost")
    assert.are.equal("", wrong())
  end)

  it("a turn that half a script has left is dropped, and stays in front of nobody", function()
    push(START, job("a", {group = "g"}), job("b", {group = "h"}), job("c"))
    redis:call("ZADD", key("q", ".groups"), 0, "t0000000000000001g", 0, "t0000000000000002ghost")
    assert.are.same({"a", "c", "b"}, ids(run(START, "pop", 10, 30000, "0", "0", 0, 0, 1)))
    assert.are.same({}, (check("q")))
  end)

  it("a group's members without records are dropped, and block it no more", function()
    push(START, job("a", {group = "g"}), job("b", {group = "g"}))
    run(START, "pop", 1, 1, "0", "0", 1, 0, 1)
    redis:call("DEL", key("q", ".jobs"))
    push(START, job("c", {group = "g"}))
    local list = {}
    for i = 1, 4 do
      for _, id in ipairs(ids(run(START + i * 5000, "pop", 1, 30000, "0", "0", 1, 0, 1))) do list[#list + 1] = id end
    end
    assert.are.same({"c"}, list)
    assert.are.same({}, (check("q")))
  end)

  it("sees what is wrong with a queue", function()
    push(START, job("a", {unique = "k"}), job("b", {delay = 1000}), job("c"))
    local function found(...)
      assert(redis:call(...))
      local wrong = check("q")
      return table.concat(wrong, " ")
    end
    assert.are.equal("", found("PING"))
    assert.are.equal("in more than one place a", found("ZADD", key("q", ".leased"), 1, "a"))
    redis:call("ZREM", key("q", ".leased"), "a")
    assert.are.equal("no record ghost", found("ZADD", key("q", ".ready"), 1, "ghost"))
    redis:call("ZREM", key("q", ".ready"), "ghost")
    assert.are.equal("in no place c", found("ZREM", key("q", ".ready"), "c"))
    assert.are.equal("in no place c no payload c", found("HDEL", key("q", ".jobs"), "pc"))
    assert.is_truthy(found("HSET", key("q", ".jobs"), "uk", "b"):find("unique key of no job b", 1, true))
    assert.is_truthy(found("HDEL", key("q", ".jobs"), "uk"):find("unique key lost a", 1, true))
  end)

  it("a member without a record, as a server that evicts keys leaves it, is dropped and holds up nobody", function()
    push(START, job("a"), job("b", {delay = 1}), job("c"), job("d"))
    pop(START, 1, 1)
    redis:call("DEL", key("q", ".jobs"))
    push(START, job("e"))
    assert.are.same({"e"}, ids(pop(START + 5000, 10)))
    assert.are.same({}, (check("q")))
  end)
end)
