-- SPDX-License-Identifier: MIT
-- Workers that wait for jobs, in every order of events that chance gives, in virtual time: the scripts are the real ones,
-- the wait for the marker (BZPOPMIN) is played here.  No job that is ready, due or given up waits while a worker does.
local here = debug.getinfo(1, "S").source:match("^@(.*/)") or "./"
package.path = here .. "support/?.lua;" .. package.path
local scripts = require "scripts"
local server = require "server"
local steps_of = require "steps"

local SECOND = 1000000
local START = 1760000000 * SECOND
local LOOK = SECOND -- as in scripts/include/queue_wake.lua
local PARTS = "jobs state ready delayed leased dead done wake groups"

describe("workers that wait", function()
  local redis, stop, sha
  setup(function()
    redis, stop = server.start()
    sha = {}
    for _, name in ipairs {"push", "pop", "ack", "nack"} do
      sha[name] = redis:call("SCRIPT", "LOAD", scripts.expand_timed("queue_" .. name))
    end
    sha.release = redis:call("SCRIPT", "LOAD", scripts.expand("queue_release"))
  end)
  teardown(function() stop() end)

  local KEYS = {push = "jobs state ready delayed done wake groups", pop = PARTS, ack = PARTS,
    nack = "jobs state ready delayed leased dead wake groups", release = "jobs ready leased wake state groups"}
  local function key(part) return "redmoon:{q}:queue." .. part end

  local World = {}
  World.__index = World

  local function new_world(workers, dies)
    redis:call("FLUSHALL")
    local world = setmetatable({now = START, waiting = {}, awake = {}, busy = {}, ids = 0, asks = 0, given = 0,
      woken = 0, away = 0, deaths = 0, dies = dies}, World)
    for _ = 1, workers do world.awake[#world.awake + 1] = {keeps = false} end
    return world
  end

  function World:run(verb, ...)
    local args = {"EVALSHA", sha[verb], 0}
    for part in KEYS[verb]:gmatch("%a+") do args[#args + 1] = key(part) end
    args[3] = #args - 3
    for _, value in ipairs {...} do args[#args + 1] = value end
    if verb ~= "release" then args[#args + 1] = self.now end
    local answer = redis:call(table.unpack(args))
    assert(not answer.err, answer.err)
    return answer
  end

  -- The server hands the marker to the one who waits longest.
  function World:settle()
    while #self.waiting > 0 and #redis:call("ZPOPMIN", key("wake")) > 0 do
      self.awake[#self.awake + 1] = table.remove(self.waiting, 1)
      self.woken = self.woken + 1
    end
  end

  function World:push(delay)
    self.ids = self.ids + 1
    self:run("push", "j" .. self.ids, "payload", 0, delay, 1000000, 1000000, "")
  end

  function World:ask(lease)
    local worker = table.remove(self.awake, math.random(#self.awake))
    if self.dies and math.random(12) == 1 then -- between its waking and its question
      self.deaths, self.away = self.deaths + 1, self.away + 1
      return
    end
    local leaves = math.random(15) == 1 -- its wait is over, it asks for the last time
    self.asks = self.asks + 1
    local answer = self:run("pop", 1, lease, leaves and 0 or 1, worker.keeps and 1 or 0)
    if answer[4] then
      self.given = self.given + 1
      self.busy[#self.busy + 1] = {id = answer[4], epoch = answer[5]}
    elseif leaves then
      self.away = self.away + 1
    else
      local keeper, wait = answer[3] == 1, answer[2]
      if not keeper then wait = wait // 2 + math.random(0, wait // 2) end
      self.waiting[#self.waiting + 1] = {keeps = keeper, till = self.now + math.max(wait, 1)}
    end
  end

  function World:finish()
    local lease = table.remove(self.busy, math.random(#self.busy))
    local how = math.random(6)
    if how <= 2 then self:run("ack", lease.id, lease.epoch, 0, "", 0, 1000)
    elseif how == 3 then self:run("nack", lease.id, lease.epoch, math.random(0, 1500), "why", 0)
    elseif how == 4 then self:run("release", lease.id, lease.epoch) end -- else it is not heard of again
    self.awake[#self.awake + 1] = {keeps = false}
  end

  function World.first_due()
    local due = math.huge
    for _, part in ipairs {"delayed", "leased"} do
      due = math.min(due, tonumber(redis:call("ZRANGE", key(part), 0, 0, "WITHSCORES")[2] or math.huge))
    end
    return due
  end

  function World:first_till()
    local till = math.huge
    for _, worker in ipairs(self.waiting) do till = math.min(till, worker.till) end
    return till
  end

  -- Time passes, until the first of those who wait is to ask again.
  function World:pass()
    self.now = math.min(self.now + math.random(0, 700000), self:first_till())
    for i = #self.waiting, 1, -1 do
      if self.waiting[i].till <= self.now then self.awake[#self.awake + 1] = table.remove(self.waiting, i) end
    end
  end

  function World:check()
    if #self.waiting == 0 or #self.awake > 0 then return end
    assert(redis:call("EXISTS", key("wake")) == 0, "a marker lies there, and a worker waits for it")
    assert(redis:call("EXISTS", key("ready")) == 0, "a job is ready, and nobody who waits was woken")
    local due, till = self.first_due(), self:first_till()
    assert(till <= self.now + LOOK, "a worker waits longer than it should")
    if till > math.max(due, self.now + 1) then
      error(("a job is due at %d, now is %d, and nobody asks before %d"):format(due, self.now, till))
    end
  end

  function World:step()
    local dice = math.random(10)
    if dice == 10 and self.away > 0 then -- comes back, or another is born
      self.away = self.away - 1
      self.awake[#self.awake + 1] = {keeps = false}
    elseif #self.awake > 0 and dice <= 5 then self:ask(math.random(3) == 1 and 30000 or math.random(100, 2500))
    elseif dice <= 6 then self:push(math.random(2) == 1 and 0 or math.random(1, 2500))
    elseif dice <= 8 and #self.busy > 0 then self:finish()
    elseif #self.awake == 0 then self:pass() end
    self:settle()
    self:check()
  end

  local seed = math.tointeger(os.getenv("SEED") or 20261125)
  local steps = steps_of(30000, 30000)
  print("SEED=" .. seed .. " STEPS=" .. steps)

  it("never wait while a job is ready, due, or given up by another", function()
    math.randomseed(seed)
    local woken, given = 0, 0
    for round = 1, steps // 500 do
      local world = new_world(1 + round % 6, false)
      for _ = 1, 500 do world:step() end
      woken, given = woken + world.woken, given + world.given
    end
    assert.is_true(woken > steps // 100 and given > steps // 20)
  end)

  it("lose a second at most by the death of one who was woken", function()
    math.randomseed(seed + 1)
    local deaths, late = 0, 0
    for round = 1, steps // 1000 do
      local world = new_world(2 + round % 6, true)
      function world.check() -- nobody asks at once, but somebody within a second
        if #world.waiting > 0 and #world.awake == 0 then
          assert(world:first_till() <= world.now + LOOK)
          late = late + redis:call("EXISTS", key("ready"))
        end
      end
      for _ = 1, 500 do world:step() end
      deaths = deaths + world.deaths
    end
    assert.is_true(deaths > 100 and late > 0) -- else nobody died between his waking and his question
  end)

  it("are woken one for each job, and one alone keeps the time", function()
    math.randomseed(seed + 2)
    local world = new_world(50, false)
    local function all_ask()
      while #world.awake > 0 do
        local worker = table.remove(world.awake)
        world.asks = world.asks + 1
        local answer = world:run("pop", 1, 30000, 1, worker.keeps and 1 or 0)
        if answer[4] then world.busy[#world.busy + 1] = {id = answer[4], epoch = answer[5]}
        else world.waiting[#world.waiting + 1] = {keeps = answer[3] == 1, till = world.now + answer[2]} end
        world:settle()
      end
    end
    all_ask()
    world.asks = 0
    for _ = 1, 10 do world:push(0) end -- at once: ten are woken, one after the other
    world:settle()
    all_ask()
    assert.are.equal(10, #world.busy)
    assert.is_true(world.asks <= 11)
    world.asks = 0
    world:push(900)
    world:settle()
    all_ask()
    assert.are.equal(1, world.asks) -- who looks when it is due
    local due, keepers = world.first_due(), 0
    for _, worker in ipairs(world.waiting) do keepers = keepers + (worker.till <= due and 1 or 0) end
    assert.are.equal(1, keepers)
  end)
end)
