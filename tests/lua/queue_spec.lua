-- SPDX-License-Identifier: MIT
-- client:queue, its jobs, and queue:work.

local helper = require "tests.lua.helper"
local alone = helper.on_one_server(it)
local redmoon = require "redmoon"

helper.over_each_way(describe, "a queue", function(way)
  local client, other

  before_each(function()
    client = helper.fresh(way)
    other = helper.connect(way)
  end)
  after_each(function()
    client:close()
    other:close()
  end)

  local function clean(queue)
    local report = assert(queue:check())
    assert.same({}, report.wrong)
    return report.jobs
  end

  it("takes Lua values there and back", function()
    local here, there = client:queue("q"), other:queue("q")
    local id = assert(here:push { to = "ann", copies = { 1, 2 }, exact = 9007199254740993 })
    assert.equal(20, #id)
    assert.equal(1, clean(here))
    local job = assert(there:pop())
    assert.same({ to = "ann", copies = { 1, 2 }, exact = 9007199254740993 }, job.payload)
    assert.equal(id, job.id)
    assert.equal(1, job.attempt)
    assert.is_nil(job.group)
    assert.equal("integer", math.type(job.epoch))
    assert.is_true(job:held())
    assert.is_true(job:remaining() > 25 and job:remaining() <= 30)
    assert.matches("held", tostring(job))
    assert.is_nil((here:pop()))
    assert.is_true(job:ack())
    assert.is_false(job:held())
    helper.assert_failure("LOST", job:ack())
    assert.is_true(job:close())
    assert.equal(0, clean(here))
    local stats = here:stats()
    assert.same({ ready = 0, delayed = 0, leased = 0, dead = 0, done = 0, pushed = 1, finished = 1, removed = 0,
      paused = false, next_due = math.huge, grouped = 0, groups = 0 }, stats)
  end)

  it("serves groups in turn, each within its limits", function()
    local queue = client:queue("q", { group_concurrency = 1 })
    for i = 1, 3 do
      assert(queue:push(i, { id = "a" .. i, group = "a" }))
      assert(queue:push_many { { payload = i, id = "b" .. i, group = "b" } })
    end
    assert.equal("a", queue:peek("a2").group)
    local stats = queue:stats()
    assert.same({ 6, 6, 2 }, { stats.ready, stats.grouped, stats.groups })
    local a, b = queue:pop(), queue:pop()
    assert.same({ "a1", "a", "b1", "b" }, { a.id, a.group, b.id, b.group })
    assert.is_nil((queue:pop())) -- each has as many as it may
    assert(b:ack())
    assert.equal("b2", queue:pop(60).id)
    assert.is_true(queue:set_group("a", { concurrency = 2 }))
    assert.equal("a2", queue:pop(60).id)
    assert.is_true(queue:set_group("a", { concurrency = 0, limit = 1, window = 3600 }))
    assert.equal("a3", queue:pop(60).id)
    assert(queue:push("late", { group = "a" }))
    assert.is_nil((queue:pop()))
    assert.is_true(queue:set_group("a"))
    assert.is_nil((queue:pop())) -- three of it run
    clean(queue)
  end)

  it("tells what became of jobs", function()
    local queue = client:queue("q", { events = true })
    assert(queue:push(1, { id = "a" }))
    local job = assert(queue:pop(60))
    assert(job:ack())
    local names, place = {}, nil
    for event in queue:events() do
      names[#names + 1], place = event.event, event.place
      assert.equal("a", event.id)
      assert.equal(event.event == "added" and 0 or job.epoch, event.epoch)
      assert.is_true(event.at > 1e9)
    end
    assert.same({ "added", "active", "completed" }, names)
    assert.is_true(queue:pause())
    local paused = queue:events(place, 60)()
    assert.same({ "paused", 0 }, { paused.event, paused.epoch })
    assert.is_nil(paused.id)
    assert.equal(2, #assert(queue:read_events(nil, 2)))
    assert.same({}, client:queue("quiet"):read_events())
    helper.assert_raises("option 'events': it takes true, false, or an integer", function()
      client:queue("q", { events = "all" })
    end)
    helper.assert_raises("queue option since", function() queue:read_events("x") end)
  end)

  it("names limits of groups that it does not accept", function()
    helper.assert_raises("option 'group_window': 0 is not accepted", function()
      client:queue("q", { group_limit = 1, group_window = 0 })
    end)
    helper.assert_raises("group_limit: it and group_window are given together", function()
      client:queue("q", { group_limit = 1 })
    end)
    local queue = client:queue("q")
    helper.assert_raises("limit: it and window are given together", function() queue:set_group("a", { limit = 1 }) end)
    helper.assert_raises("unknown option 'concurency'", function() queue:set_group("a", { concurency = 1 }) end)
    helper.assert_raises("a group's name has 1 to 128 bytes", function() queue:set_group("") end)
  end)

  it("takes bytes as they are with the codec \"string\", and functions of the user", function()
    local queue = client:queue("q", { codec = "string" })
    assert(queue:push("\0\r\n\255"))
    assert.equal("\0\r\n\255", queue:pop().payload)
    helper.assert_failure("CODEC", queue:push {})
    local own = client:queue("own", { codec = { encode = function(v) return "<" .. v .. ">" end,
      decode = function(text) return text:sub(2, -2) end } })
    assert(own:push("x"))
    local job = own:pop()
    assert.equal("x", job.payload)
    assert.equal("<x>", job.raw)
  end)

  it("hands out by priority, and in each in order; many at once", function()
    local queue = client:queue("q")
    local items = {}
    for i = 1, 30 do items[i] = { payload = i, priority = i % 3 } end
    local ids = assert(queue:push_many(items))
    assert.equal(30, #ids)
    local got = {}
    for _, job in ipairs(assert(queue:pop_many(20))) do got[#got + 1] = job.payload end
    for _, job in ipairs(assert(queue:pop_many(20, 0))) do got[#got + 1] = job.payload end
    local want = {}
    for priority = 2, 0, -1 do
      for i = 1, 30 do if i % 3 == priority then want[#want + 1] = i end end
    end
    assert.same(want, got)
    assert.same({}, queue:pop_many(5))
    assert.same({}, queue:push_many {})
  end)

  it("hands out jobs of equal options in the order of their list, under the ids that it gave them", function()
    local queue = client:queue("q")
    local items = {}
    for i = 1, 120 do items[i] = { payload = { n = i } } end
    local ids = assert(queue:push_many(items))
    assert.equal(120, queue:stats().ready)
    assert.same({ n = 60 }, queue:peek(ids[60]).payload)
    for i = 1, 120, 40 do
      for k, job in ipairs(assert(queue:pop_many(40))) do
        assert.equal(ids[i + k - 1], job.id)
        assert.same({ n = i + k - 1 }, job.payload)
        assert(job:ack())
      end
    end
    assert.equal(0, clean(queue))
  end)

  it("refuses ids and unique keys that are taken", function()
    local queue = client:queue("q")
    assert.equal("one", queue:push(1, { id = "one", unique = "k" }))
    local message, detail = helper.assert_failure("CONFLICT", queue:push(2, { id = "one" }))
    assert.matches("there is a job 'one' already", message)
    assert.equal("one", detail.id)
    message, detail = helper.assert_failure("CONFLICT", queue:push(2, { unique = "k" }))
    assert.matches("job 'one' has this unique key", message)
    assert.equal("one", detail.id)
    local ids = queue:push_many { { payload = 1, id = "one" }, { payload = 2, id = "two" },
      { payload = 3, unique = "k" } }
    assert.is_true(redmoon.is_error(ids[1]) and redmoon.is_error(ids[3]))
    assert.equal("CONFLICT", ids[3].code)
    assert.equal("one", ids[3].id)
    assert.equal("two", ids[2])
    assert.equal(ids[2], (queue:push(5, { request_id = "r", id = "three" })) and "two")
    assert.equal("three", queue:push(5, { request_id = "r", id = "four" })) -- the answer to the first
    assert.equal(3, clean(queue))
  end)

  it("waits for a job that is pushed, due, or given up by its worker", function()
    local queue = client:queue("q", { lease = 0.1 })
    local next = other:queue("q")
    assert(queue:push("late", { delay = 0.5 }))
    assert.is_nil((queue:pop()))
    assert.equal("late", queue:pop(60).payload) -- and is not heard of again
    local job = assert(next:pop(60))
    assert.equal(2, job.attempt)
    assert.is_true(job:ack())
    assert.is_nil((next:pop(0.01)))
  end)

  it("tells a worker that its lease passed to another", function()
    local queue, next = client:queue("q", { lease = 0.1 }), other:queue("q")
    assert(queue:push("x"))
    local lost = assert(queue:pop())
    local job = assert(next:pop(60))
    assert.is_true(job.epoch > lost.epoch)
    local message, detail = helper.assert_failure("LOST", lost:ack())
    assert.matches("queue 'q': job '%x+' is not this worker's any more", message)
    assert.equal("answered", detail.outcome)
    helper.assert_failure("LOST", lost:nack())
    helper.assert_failure("LOST", lost:extend())
    helper.assert_failure("LOST", lost:release())
    helper.assert_failure("LOST", lost:progress(1))
    helper.assert_failure("LOST", lost:ack_next())
    assert.same({ lost }, next:extend_many { job, lost })
    assert.is_true(job:extend(60))
    assert.is_true(job:remaining() > 50)
    assert.is_true(job:ack())
  end)

  it("runs a failure again, and buries what failed too often, until it is redriven", function()
    local queue = client:queue("q", { max_attempts = 2, backoff = { min = 0.001, max = 0.002 } })
    local id = queue:push("x")
    local ok, dead = queue:pop():nack { error = "first" }
    assert.is_true(ok)
    assert.is_false(dead)
    ok, dead = queue:pop(60):nack { error = "second", delay = 0 }
    assert.is_true(ok and dead)
    local list, total = queue:dead()
    assert.equal(1, total)
    assert.equal(1, #list)
    assert.equal(id, list[1].id)
    assert.equal("second", list[1].error)
    assert.equal("x", list[1].payload)
    assert.equal(2, list[1].failures)
    assert.is_true(math.abs(list[1].died_at - os.time()) < 3600)
    assert.same({}, (queue:dead(10, 1)))
    assert.equal(1, queue:redrive())
    assert.equal(0, queue:redrive(5))
    assert.equal(1, queue:pop():nack { fatal = true } and queue:stats().dead)
    assert.equal(1, queue:purge("dead"))
    assert.equal(0, clean(queue))
  end)

  it("shows progress and result of a job, and removes one", function()
    local queue = client:queue("q", { retention = 60 })
    queue:push("x", { id = "one", delay = 60, unique = "u", max_attempts = 4 })
    local seen = queue:peek("one")
    assert.is_true(seen.after > 50 and seen.after <= 60)
    assert.equal("delayed", seen.state)
    assert.equal("u", seen.unique)
    assert.equal(4, seen.max_attempts)
    assert.is_true(queue:remove("one"))
    assert.is_false(queue:remove("one"))
    assert.is_nil((queue:peek("one")))
    queue:push("y", { id = "two" })
    local job = queue:pop()
    assert.is_true(job:progress { percent = 50 })
    assert.same({ percent = 50 }, queue:peek("two").progress)
    assert.is_true(job:ack { result = { 1, 2 } })
    seen = queue:peek("two")
    assert.equal("done", seen.state)
    assert.same({ 1, 2 }, seen.result)
    helper.assert_failure("CONFLICT", queue:push("z", { id = "two" }))
    assert.equal(1, queue:purge("done"))
  end)

  it("acks and takes the next one at once; what is released keeps its place", function()
    local queue = client:queue("q")
    for i = 1, 3 do queue:push(i) end
    local job, list = queue:pop(), {}
    assert.is_true(job:release())
    job = queue:pop()
    while job do
      list[#list + 1] = job.payload
      local next = job:ack_next()
      job:close()
      job = next
    end
    assert.same({ 1, 2, 3 }, list)
    assert.equal(3, queue:stats().finished)
  end)

  it("acks many at once, and takes the next ones along", function()
    local queue, brief = client:queue("q"), client:queue("q", { lease = 0.1 })
    assert(queue:push("lost"))
    local lost = assert(brief:pop())
    assert.equal(2, queue:pop(60).attempt)
    for i = 1, 6 do queue:push(i) end
    local jobs = assert(queue:pop_many(3))
    jobs[4] = lost
    local gone, next = assert(queue:ack_many(jobs, 10))
    assert.same({ lost }, gone)
    assert.equal(3, #next)
    assert.is_true(jobs[1].ended)
    gone, next = assert(queue:ack_many(next))
    assert.same({ {}, {} }, { gone, next })
    assert.equal(6, queue:stats().finished)
    helper.assert_raises("ack_many: no jobs", function() queue:ack_many {} end)
    helper.assert_raises("an integer from 0 to 500", function() queue:ack_many(jobs, 501) end)
  end)

  it("gives a request that is repeated the same job", function()
    local here, there = client:queue("q"), other:queue("q")
    assert(here:push_many { { payload = 1 }, { payload = 2 } })
    local job = assert(here:pop(0, { request_id = "worker-3" }))
    assert.equal(job.epoch, there:pop(0, { request_id = "worker-3" }).epoch)
    assert.is_true(job:ack())
    helper.assert_failure("LOST", there:pop(0, { request_id = "worker-3" }))
    helper.assert_raises("request_id: not accepted", function() there:pop(0, { request_id = "a b" }) end)
    assert.equal(1, there:stats().ready)
  end)

  it("hands nothing out while it is paused", function()
    local queue = client:queue("q")
    queue:push("x")
    assert.is_true(queue:pause())
    assert.is_true(queue:stats().paused)
    assert.is_nil((queue:pop()))
    assert.is_true(queue:resume())
    assert.equal("x", queue:pop(60).payload)
  end)

  it("gives a job back at the end of a scope, or says by which error it failed", function()
    local queue = client:queue("q", { backoff = { min = 0, max = 0 } })
    queue:push("x")
    do
      local job <close> = queue:pop()
      assert.is_truthy(job)
    end
    local ok = pcall(function()
      local job <close> = queue:pop()
      assert(job.attempt == 1)
      error("no such mailbox")
    end)
    assert.is_false(ok)
    local job = queue:pop(60)
    assert.equal(2, job.attempt)
    assert.matches("no such mailbox", queue:peek(job.id).error)
  end)

  it("is closed with its jobs left good", function()
    local queue = client:queue("q")
    queue:push("x")
    local job = queue:pop()
    assert.is_true(queue:close())
    assert.is_true(queue:close())
    helper.assert_raises("the queue is closed", function() queue:pop() end)
    client:close()
    assert.is_true(job:ack())
    assert.is_true(job:close())
    helper.assert_raises("the job is closed", function() job:ack() end)
    helper.assert_failure("CLOSED", client:queue("q"))
  end)

  it("names what it does not accept", function()
    local bad = {
      { { lease = 0.01 }, "option 'lease': 0.01 is not accepted; it takes seconds from 0.1 to 86400" },
      { { leese = 1 }, "unknown option 'leese' %(did you mean 'lease'%?%)" },
      { { backoff = 1 }, "option 'backoff': a number is not accepted" },
      { { backoff = { min = 5, max = 4 } }, "queue option backoff max %(ms%): 4000 is not accepted; give 5000" },
      { { codec = "xml" }, "option 'codec': 'xml'" },
      { { max_attempts = 0 }, "option 'max_attempts': 0" },
    }
    for _, case in ipairs(bad) do
      helper.assert_raises(case[2], function() client:queue("q", case[1]) end)
    end
    helper.assert_raises("a queue's name has 1 to 512 bytes", function() client:queue("") end)
    local queue = client:queue("q", { max_payload = 10 })
    for _, case in ipairs {
      { { priority = 1024 }, "option 'priority': 1024 is not accepted; it takes an integer from 0 to 1023" },
      { { delay = "1" }, "option 'delay': a string is not accepted" },
      { { id = "" }, "an id of 0 bytes" },
      { { ttl = 1 }, "unknown option 'ttl'" },
      { { payload = 1 }, "option 'payload' is of queue:push_many" },
      { { group = ("g"):rep(129) }, "queue option group: 129 bytes are not accepted; give 1 to 128" },
      { { request_id = "a b" }, "request_id: not accepted" },
    } do
      helper.assert_raises(case[2], function() queue:push(1, case[1]) end)
    end
    local message = helper.assert_failure("TOO_LARGE", queue:push("too large, this is"))
    assert.matches("max_payload is 10", message)
    helper.assert_raises("item 2 has no payload", function() queue:push_many { { payload = 1 }, {} } end)
    helper.assert_raises("item 1: a table", function() queue:push_many { 5 } end)
    helper.assert_raises("an integer from 1 to 500", function() queue:pop_many(501) end)
    helper.assert_raises("option 'timeout': %-1", function() queue:pop(-1) end)
    helper.assert_raises("unknown option 'renews'", function() queue:pop(0, { renews = true }) end)
    helper.assert_raises("unknown state to purge 'leased'", function() queue:purge("leased") end)
    helper.assert_raises("queue option count", function() queue:redrive(0) end)
    assert.equal(0, client:exists("redmoon:{q}:queue.jobs"))
  end)
end)

describe("queue:work", function()
  local client, queue

  before_each(function()
    client = helper.client()
    queue = client:queue("q", { max_attempts = 2, backoff = { min = 0, max = 0 } })
  end)
  after_each(function() client:close() end)

  -- A stop that says yes when everything that was pushed has ended, well or not.
  local function when_all_is_done()
    local stats = queue:stats()
    return stats.ready + stats.delayed + stats.leased == 0
  end

  it("runs every job; what a handler raises or returns becomes the reason of the failure", function()
    for i = 1, 20 do queue:push(i) end
    local seen = {}
    local counts = assert(queue:work(function(job)
      seen[job.payload] = (seen[job.payload] or 0) + 1
      if job.payload == 3 then error("raised", 0) end
      if job.payload == 4 then return nil, "returned" end
      if job.payload == 5 then error { "a table" } end
      if job.payload == 6 and job.attempt == 1 then error("once") end
      if job.payload == 7 then assert(job:ack()) end
      return nil
    end, { stop = when_all_is_done }))
    assert.same({ done = 17, failed = 7, lost = 0, released = 0 }, counts)
    for i = 1, 20 do assert.equal((i >= 3 and i <= 6) and 2 or 1, seen[i]) end
    local reasons = {}
    for _, job in ipairs((queue:dead())) do reasons[job.payload] = job.error end
    assert.equal("raised", reasons[3])
    assert.equal("returned", reasons[4])
    assert.matches("^table: ", reasons[5])
    assert.same({}, queue:check().wrong)
  end)

  it("prolongs the lease for as long as a handler runs", function()
    queue = client:queue("q", { lease = 1.5 })
    queue:push("slow")
    local watch = helper.server():connect()
    local ran = 0
    local counts = assert(queue:work(function(job)
      ran = ran + 1
      local first = watch:zscore("redmoon:{q}:queue.leased", job.id)
      local prolonged = 0
      while prolonged < 2 do -- by nobody's call
        local now = watch:zscore("redmoon:{q}:queue.leased", job.id)
        if now > first then first, prolonged = now, prolonged + 1 end
      end
    end, { stop = when_all_is_done }))
    watch:close()
    assert.equal(1, ran)
    assert.equal(1, counts.done)
  end)

  it("gives back what it has not begun when it is told to stop", function()
    for i = 1, 10 do queue:push(i) end
    local ran, first, has_run = 0, 1, {}
    local counts = assert(queue:work(function(job)
      ran = ran + 1
      has_run[job.payload] = true -- coroutines may begin in any order
    end, { concurrency = 6, stop = function() return ran == 2 end }))
    assert.same({ done = 2, failed = 0, lost = 0, released = 4 }, counts)
    assert.equal(8, queue:stats().ready)
    while has_run[first] do first = first + 1 end
    assert.equal(first, queue:pop().payload)
  end)

  if os.getenv "REDMOON_TEST_LOOP" then
    it("runs as many jobs beside one another as it may, and ends when all of them have", function()
      for i = 1, 30 do queue:push(i) end
      local begun, most, running, ended = 0, 0, 0, 0
      local counts = assert(queue:work(function(job)
        begun, running = begun + 1, running + 1
        most = math.max(most, running)
        local _ <close> = setmetatable({}, { __close = function() running, ended = running - 1, ended + 1 end })
        while begun < 5 do client:ping() end -- until others have begun
        if job.payload == 7 and job.attempt == 1 then error("once") end
        for _ = 1, 5 do client:ping() end
      end, { concurrency = 5, stop = when_all_is_done }))
      assert.same({ done = 30, failed = 1, lost = 0, released = 0 }, counts)
      assert.same({ 31, 31, 0, 5 }, { begun, ended, running, most })
      assert.same({}, queue:check().wrong)
    end)

    it("lets what runs end when it is told to stop", function()
      for i = 1, 3 do queue:push(i) end
      local begun, ended, stopped = 0, 0, false
      local counts = assert(queue:work(function()
        begun = begun + 1
        while begun < 3 do client:ping() end
        stopped = true
        for _ = 1, 20 do client:ping() end
        ended = ended + 1
      end, { concurrency = 3, stop = function() return stopped end }))
      assert.equal(3, ended)
      assert.same({ done = 3, failed = 0, lost = 0, released = 0 }, counts)
    end)

    it("raises what stop or on_error raises, after all that runs has ended", function()
      for i = 1, 5 do queue:push(i) end
      local asked, running = 0, 0
      helper.assert_raises("no more", function()
        queue:work(function()
          running = running + 1
          for _ = 1, 20 do client:ping() end
          running = running - 1
        end, { concurrency = 3, stop = function()
          asked = asked + 1
          if asked > 4 then error("no more", 0) end
        end })
      end)
      assert.equal(0, running)
    end)
  end

  it("buries a job whose payload cannot be decoded", function()
    client:queue("q", { codec = "string" }):push("{ no json")
    local ran = 0
    local counts = assert(queue:work(function() ran = ran + 1 end, { stop = when_all_is_done }))
    assert.equal(0, ran)
    assert.equal(1, counts.failed)
    assert.equal("its payload cannot be decoded", (queue:dead())[1].error)
  end)

  it("tells of a job that was lost, and goes on", function()
    queue:push("x", { id = "one" })
    queue:push("y")
    local told = {}
    local counts = assert(queue:work(function(job)
      if job.payload == "x" then assert(queue:remove("one")) end
    end, { stop = when_all_is_done, on_error = function(_, code, _, id) told[#told + 1] = code .. " " .. id end }))
    assert.same({ "LOST one" }, told)
    assert.same({ done = 1, failed = 0, lost = 1, released = 0 }, counts)
  end)

  alone("goes on when the server takes no writes for a while, and says once more what it may not have heard", function()
    queue:push("x")
    queue:push("y")
    local told, ran = {}, 0
    local direct = assert(redmoon.connect(helper.server().url, { loop = "blocking" })) -- a hook cannot wait in a loop
    local function stand_still(yes)
      assert(direct:call("REPLICAOF", yes and "127.0.0.1" or "NO", yes and "1" or "ONE"))
    end
    stand_still(true)
    local hook
    queue = client:queue("q", { lease = 10 })
    local counts = assert(queue:work(function(job)
      ran = ran + 1
      if job.payload == "x" then return end
      stand_still(true) -- so the end of this one is refused, until the hook has run
      hook = client:on("retry", function() stand_still(false) end)
    end, {
      stop = function() return ran > 2 or when_all_is_done() end,
      on_error = function(_, code)
        told[#told + 1] = code
        stand_still(false)
      end,
    }))
    assert.same({ "READONLY" }, told)
    assert.same({ done = 2, failed = 0, lost = 0, released = 0 }, counts)
    assert.equal(2, ran)
    hook:close()
    direct:close()
  end)

  it("ends when jobs cannot be had", function()
    client:set("redmoon:{q}:queue.ready", "no set")
    helper.assert_failure("WRONGTYPE", queue:work(function() end))
  end)

  it("names what it does not accept", function()
    helper.assert_raises("work: a function expected, got nil", function() queue:work() end)
    helper.assert_raises("unknown option 'threads'", function() queue:work(print, { threads = 1 }) end)
    helper.assert_raises("option 'concurrency': it takes an integer", function()
      queue:work(print, { concurrency = 0 })
    end)
    helper.assert_raises("option 'stop': a boolean", function() queue:work(print, { stop = true }) end)
  end)
end)

describe("a queue with replicas to wait for", function()
  local client

  before_each(function() client = helper.client() end)
  after_each(function() client:close() end)

  it("says when replicas lack what was written", function()
    local copied = client:queue("copied", { min_replicas = 1 })
    local message, detail = helper.assert_failure("UNAVAILABLE", copied:push("x"))
    assert.matches("it has reached 0 replicas in time, and min_replicas is 1", message)
    local job = copied:pop()
    assert.equal(detail.id, job.id)
    assert(client:queue("copied"):push("y"))
    message, detail = helper.assert_failure("UNAVAILABLE", job:ack_next())
    assert.matches("it is written and stays so", message)
    assert.equal("y", detail.job.payload)
    assert.is_true(job.ended)
    assert.equal(1, copied:stats().finished)
  end)
end)
