-- SPDX-License-Identifier: MIT
-- Multiplexing: 64 coroutines share few connections, and each gets its own replies, whatever happens to the others.
-- $REDMOON_MULTIPLEX_CALLS: how many calls the long one makes.

local helper = require "tests.lua.helper"
local redmoon = require "redmoon"
local every_call = require("tests.lua.loops").calls

local CALLERS = 64

local loops = {}

function loops.cqueues(functions)
  local controller = require("cqueues").new()
  for _, fn in ipairs(functions) do controller:wrap(fn) end
  assert(controller:loop())
end

function loops.luv(functions)
  local uv = require "luv"
  for _, fn in ipairs(functions) do assert(coroutine.resume(coroutine.create(fn))) end
  uv.run()
end

function loops.copas(functions)
  local copas = require "copas"
  local left, failure = #functions, nil
  for _, fn in ipairs(functions) do
    copas.addthread(function()
      local ok, message = xpcall(fn, debug.traceback)
      left, failure = left - 1, failure or (not ok and message)
    end)
  end
  while left > 0 do copas.step(1) end
  if failure then error(failure, 0) end
end

for name, run in pairs(loops) do
  for _, way in ipairs { helper.ways[1], helper.ways[4], helper.ways[5] } do
    describe(("coroutines under %s that share connections (%s)"):format(name, way.name), function()
      local client

      local function connect(options)
        options = options or {}
        options.loop, options.multiplex = name, true
        return helper.connect(way, options)
      end

      local function run_many(fn)
        local functions = {}
        for i = 1, CALLERS do
          functions[i] = function() fn(i) end
        end
        run(functions)
      end

      before_each(function()
        client = connect()
        assert(client:flushall())
      end)
      after_each(function()
        client:close()
        collectgarbage() -- a call that has ended holds its part of a lane until then, and Copas knows 1,024 descriptors
        collectgarbage()
      end)

      it("get their own replies over a few connections", function()
        run_many(function(i)
          for j = 1, 20 do
            local tag = i .. ":" .. j
            assert.equal(tag, client:echo(tag))
            local replies = assert(client:pipeline(function(p)
              p:echo(tag)
              p:incr("n")
              p:hset("h", tag, "1")
            end))
            assert.equal(tag, replies[1])
            assert.equal(1, replies[3])
          end
        end)
        assert.equal(CALLERS * 20, tonumber(client:get("n")))
        local stats = client:stats()
        assert.is_true(stats.dials <= 5, stats.dials) -- the lanes, and one for the calls that block
        assert.equal(0, stats.in_use)
      end)

      it("keep their order, each its own", function()
        run_many(function(i)
          for j = 1, 30 do assert.equal(j, client:rpush("list:" .. i, j)) end
        end)
        for i = 1, CALLERS do
          local list = client:lrange("list:" .. i, 0, -1)
          for j = 1, 30 do assert.equal(tostring(j), list[j]) end
        end
      end)

      it("are not harmed by a command that is refused", function()
        assert(client:set("text", "x"))
        run_many(function(i)
          for _ = 1, 20 do
            if i % 8 == 0 then helper.assert_failure("WRONGTYPE", client:lpush("text", "y"))
            else assert.equal("x", client:get("text")) end
          end
        end)
        assert.is_true(client:stats().dials <= 5)
      end)

      it("do not wait behind one that blocks, or a transaction", function()
        local answer
        run_many(function(i)
          if i == 1 then answer = client:blpop("list", 30) end
          if i % 16 == 2 then
            assert(client:transaction({ "sum" }, function(tx)
              local sum = tonumber(tx:get("sum") or 0)
              tx:multi()
              tx:set("sum", sum + 1)
            end, { max_attempts = 100 }))
          end
          for _ = 1, 10 do assert.equal("PONG", client:ping()) end
          if i == CALLERS then assert(client:rpush("list", "x")) end
        end)
        assert.same({ "list", "x" }, answer)
        assert.equal("4", client:get("sum"))
      end)
    end)
  end
end

describe("coroutines that share connections under cqueues", function()
  local random = math.random

  -- What became of each increment is known, or said to be unknown; no reply is another call's.
  it("are told the truth through deadlines, abandoned calls and killed connections", function()
    local server = helper.server()
    local calls = tonumber(os.getenv("REDMOON_MULTIPLEX_CALLS") or 20000)
    local killer <close> = assert(redmoon.connect(server.url))
    local client <close> = assert(redmoon.connect(server.url, { loop = "cqueues", multiplex = true, max_retries = 10 }))
    assert(killer:flushall())
    local hasty <close> = client:with { timeout = 0.001 }
    local made, wrong, answered, unknown, abandoned, kills, surprise = 0, 0, 0, 0, 0, 0, nil

    local function note(code, message)
      if code ~= "TIMEOUT" and code ~= "POOL_TIMEOUT" and code ~= "IO" and code ~= "CONNECT" then surprise = message end
    end

    local function one(view)
      made = made + 1
      if random(10) == 1 then
        local value, message, code, detail = view:incr("n")
        if value then answered = answered + 1
        elseif detail.outcome == "unknown" then unknown = unknown + 1 end
        if not value then note(code, message) end
        return
      end
      local tag = made .. ":" .. random(1 << 30)
      local reply, message, code = view:echo(tag)
      if reply == nil then note(code, message)
      elseif reply ~= tag then wrong = wrong + 1 end
    end

    local cqueues = require "cqueues"
    local controller = cqueues.new()
    for _ = 1, CALLERS do
      controller:wrap(function()
        while made < calls do
          one(random(10) == 1 and hasty or client)
          if random(50) == 1 then -- a scheduler of one's own, which is dropped in the middle of the call
            local inner = cqueues.new()
            inner:wrap(function() one(client) end)
            inner:step(0)
            abandoned = abandoned + 1
          end
        end
      end)
    end
    controller:wrap(function()
      while made < calls do
        cqueues.sleep(0.005)
        kills = kills + killer:client("KILL", "TYPE", "normal", "SKIPME", "yes")
      end
    end)
    assert(controller:loop())
    collectgarbage()
    assert.is_nil(surprise)
    assert.equal(0, wrong)
    assert.is_true(kills > 0 and abandoned > 0)
    local n = tonumber(killer:get("n"))
    assert.is_true(n >= answered and n <= answered + unknown + abandoned,
      ("%d answered, %d unknown, %d abandoned, %d executed"):format(answered, unknown, abandoned, n))
  end)

  -- A scheduler that lets nobody who is parked go on before it is woken, whatever the time.
  local function new_scheduler()
    local self = { waiting = {}, parked = {}, ready = {}, woken = 0 }
    function self.wait()
      self.waiting[#self.waiting + 1] = coroutine.running()
      coroutine.yield()
    end
    function self.park(key, seconds)
      assert(type(key) == "userdata" and seconds >= 0)
      self.parked[key] = coroutine.running()
      coroutine.yield()
    end
    function self.wake(key)
      local co = self.parked[key]
      self.parked[key] = nil
      self.ready[#self.ready + 1] = co
      self.woken = self.woken + 1
    end
    local function resume(co)
      if coroutine.status(co) == "suspended" then assert(coroutine.resume(co)) end
    end
    -- One turn; false when nobody is left.
    function self.turn()
      local now = #self.ready > 0 and self.ready or self.waiting
      if #now == 0 then return false end
      if now == self.ready then self.ready = {} else self.waiting = {} end
      for _, co in ipairs(now) do resume(co) end
      return true
    end
    function self.spawn(fn) resume(coroutine.create(fn)) end
    return self
  end

  it("that are parked go on by whoever reads for them", function()
    local loop = new_scheduler()
    local client <close> = assert(redmoon.connect(helper.server().url, { loop = loop, multiplex = true }))
    local done = 0
    for i = 1, 16 do
      loop.spawn(function()
        for j = 1, 50 do
          assert.equal(("%d:%d"):format(i, j), client:echo(("%d:%d"):format(i, j)))
          if j % 10 == 0 then assert.equal(i, tonumber(assert(client:pipeline(function(p) p:echo(i) end))[1])) end
        end
        done = done + 1
      end)
    end
    repeat until not loop.turn()
    assert.equal(16, done)
    assert.is_nil(next(loop.parked))
    assert.is_true(loop.woken > 100) -- some lead
  end)

  it("of calls of every kind, too", function()
    local loop = new_scheduler()
    local client <close> = assert(redmoon.connect(helper.server().url, { loop = loop, multiplex = true }))
    local wanted, done = 0, 0
    for _ = 1, 3 do
      for kind, call in pairs(every_call) do
        wanted = wanted + 1
        local tag = ("%d/%s/"):format(wanted, kind)
        loop.spawn(function()
          for i = 1, 3 do call(client, tag .. i) end
          done = done + 1
        end)
      end
    end
    repeat until not loop.turn()
    assert.equal(wanted, done)
    assert.is_nil(next(loop.parked))
    assert.is_true(loop.woken > 10)
  end)

  it("go on when the coroutine that reads for them is closed", function()
    local loop = new_scheduler()
    local client <close> = assert(redmoon.connect(helper.server().url, { loop = loop, multiplex = true }))
    local done, closed = 0, 0
    for i = 1, 16 do
      loop.spawn(function()
        for _ = 1, 5 do assert.equal(i, tonumber(client:echo(i))) end
        done = done + 1
      end)
    end
    while #loop.ready + #loop.waiting > 0 do
      if #loop.ready == 0 and closed < 8 then -- none is ready: it is the one that waits
        assert(coroutine.close(table.remove(loop.waiting)))
        closed = closed + 1
      end
      loop.turn()
    end
    assert.equal(16, done + closed)
    assert.is_nil(next(loop.parked))
  end)

  it("takes park and wake from a loop, both or none", function()
    local loop = new_scheduler()
    loop.wake = nil
    local client <close> = assert(redmoon.connect(helper.server().url, { loop = loop, multiplex = true }))
    local done = 0
    for _ = 1, 4 do
      loop.spawn(function()
        assert.equal("x", client:echo("x"))
        done = done + 1
      end)
    end
    repeat until not loop.turn()
    assert.equal(4, done)
    local ok, message = pcall(redmoon.connect, helper.server().url, { loop = { wait = print, park = 1 } })
    assert.is_false(ok)
    assert.matches("its function 'park' is a number", message)
  end)

  it("and are collected in the middle of their calls leave nothing behind", function()
    local client = assert(redmoon.connect(helper.server().url, { loop = "cqueues", multiplex = true }))
    local cqueues = require "cqueues"
    for _ = 1, 50 do
      local controller = cqueues.new()
      for i = 1, 10 do
        controller:wrap(function() assert.equal(i, tonumber(client:echo(i))) end)
      end
      for _ = 1, random(5) do controller:step(0) end
      controller = nil -- luacheck: ignore
      collectgarbage() -- the controller, and then what its coroutines held
      collectgarbage()
      assert.equal("PONG", client:ping()) -- the client remembers its last call until the next one
      collectgarbage()
      assert.equal(0, client:stats().in_use)
    end
    client:close()
  end)
end)
