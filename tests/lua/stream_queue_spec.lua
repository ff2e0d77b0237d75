-- SPDX-License-Identifier: MIT
-- client:stream_queue: leases on the entries of a stream, told apart by their epochs.  Leases end when a test ages them.

local helper = require "tests.lua.helper"
local redmoon = require "redmoon"

local KEY, LEASE = "redmoon:{q}:stream", 600

helper.over_each_way(describe, "a stream queue", function(way)
  local client, queue

  before_each(function()
    client = helper.fresh(way)
    queue = assert(client:stream_queue("q", { lease = LEASE, max_attempts = 3 }))
  end)
  after_each(function()
    queue:close()
    client:close()
  end)

  local function age(job)
    local owner = client:xpending(KEY, "workers", job.id, job.id, 1)[1][2]
    client:call("XCLAIM", KEY, "workers", owner, 0, job.id, "IDLE", LEASE * 1000, "JUSTID")
  end

  it("gives jobs in order; what is done is gone", function()
    assert.is_nil(queue:pop())
    local ids = { assert(queue:push({ n = 1 })), assert(queue:push("two")) }
    assert.same({ ready = 2, delayed = 0, leased = 0, dead = 0 }, queue:stats())
    local one, two = assert(queue:pop()), assert(queue:pop(5))
    assert.same({ { n = 1 }, "two" }, { one.payload, two.payload })
    assert.same(ids, { one.id, two.id })
    assert.same({ 1, 1, '{"n":1}', false }, { one.attempt, one.epoch, one.raw, one.ended })
    assert.is_true(one:held() and one:remaining() > LEASE * 0.9)
    assert.same({ ready = 0, delayed = 0, leased = 2, dead = 0 }, queue:stats())
    assert.is_true(one:ack())
    assert.is_true(one.ended)
    assert.is_false(one:held())
    assert.is_true(two:ack())
    helper.assert_failure("LOST", two:ack())
    assert.equal(0, client:xlen(KEY))
    assert.is_nil(queue:pop(0.05))
  end)

  it("tells a worker that its lease passed on, and changes nothing", function()
    local other = helper.connect(way)
    local theirs = assert(other:stream_queue("q", { lease = LEASE }))
    queue:push("x")
    local first = queue:pop()
    age(first)
    local second = assert(theirs:pop())
    assert.same({ first.id, 2, 2 }, { second.id, second.attempt, second.epoch })
    local before = client:dump(KEY)
    for _, verb in ipairs { "extend", "ack", "nack", "release" } do
      local _, detail = helper.assert_failure("LOST", first[verb](first))
      assert.equal(verb == "extend" and "answered" or "not_sent", detail.outcome)
    end
    assert.equal(before, client:dump(KEY))
    assert.is_true(second:extend(1))
    assert.is_true(second:ack())
    other:close()
  end)

  it("takes the next job along with an ack", function()
    local items, along = {}, 0
    for i = 1, 50 do items[i] = { payload = i } end
    queue:push_many(items)
    local job = assert(queue:pop())
    for i = 2, 50 do
      local next, message = job:ack_next()
      assert.is_nil(message)
      assert.is_true(job.ended)
      if next then along = along + 1 end -- else a pop is to look at leases
      job = next or queue:pop()
      assert.same({ i, 1 }, { job.payload, job.attempt })
    end
    assert.is_true(along > 0)
    assert.is_nil(job:ack_next())
    helper.assert_failure("LOST", job:ack_next())
    assert.equal(0, client:xlen(KEY))
  end)

  it("runs what failed again, and keeps what failed too often", function()
    queue:push("bad")
    for attempt = 1, 3 do
      local job = assert(queue:pop())
      assert.equal(attempt, job.attempt)
      local told, dead = job:nack { error = "attempt " .. attempt }
      assert.is_true(told)
      assert.equal(attempt == 3, dead)
    end
    queue:push("worse")
    assert.same({ true, true }, { queue:pop():nack { fatal = true, error = setmetatable({}, { __tostring = function()
      return "an object"
    end }) } })
    local list, total = queue:dead()
    assert.equal(2, total)
    assert.same({ "bad", "attempt 3", 3, "worse", "an object", 1 }, { list[1].payload, list[1].error, list[1].attempts,
      list[2].payload, list[2].error, list[2].attempts })
    assert.is_true(list[1].died_at > 1700000000)
    assert.equal(1, #queue:dead(1))
    assert.equal(1, queue:redrive(1))
    assert.equal(1, queue:redrive())
    assert.equal(0, queue:redrive())
    assert.same({ ready = 2, delayed = 0, leased = 0, dead = 0 }, queue:stats())
    assert.equal("bad", queue:pop().payload)
  end)

  it("redrives any number", function()
    local items = {}
    for i = 1, 400 do items[i] = { payload = i } end
    for _ = 1, 3 do queue:push_many(items) end
    while true do
      local jobs = queue:pop_many(500)
      if #jobs == 0 then break end
      for _, job in ipairs(jobs) do job:nack { fatal = true } end
    end
    assert.equal(1100, queue:redrive(1100))
    assert.equal(100, queue:redrive())
    assert.equal(1200, queue:stats().ready)
  end)

  it("delays a failure, up to the lease", function()
    queue:push("x")
    assert.is_true(queue:pop():nack { delay = LEASE })
    assert.is_nil(queue:pop())
    assert.same({ ready = 0, delayed = 1, leased = 0, dead = 0 }, queue:stats())
    queue:push("y")
    local job = queue:pop()
    helper.assert_raises("delay", job.nack, job, { delay = LEASE + 1 })
    assert.is_true(job:ack())
  end)

  it("takes back what is released or closed unrun, and does not count it", function()
    queue:push("x")
    for epoch = 1, 4 do
      local job <close> = assert(queue:pop())
      assert.same({ 1, epoch }, { job.attempt, job.epoch })
      if epoch % 2 == 1 then assert.is_true(job:release()) end
    end
    assert.is_false(pcall(function()
      local job <close> = queue:pop()
      error("broken " .. job.payload, 0)
    end))
    local job = assert(queue:pop())
    assert.same({ 2, 6 }, { job.attempt, job.epoch })
    assert.is_true(job:close() and job:close())
    assert.is_nil(job.id)
    helper.assert_raises("closed", job.ack, job)
    assert.equal(7, queue:pop().epoch)
  end)

  it("pushes and pops many", function()
    assert.same({}, queue:push_many {})
    local ids = assert(queue:push_many { { payload = 1 }, { payload = { 2 } }, { payload = redmoon.null } })
    local jobs = assert(queue:pop_many(500))
    assert.equal(3, #jobs)
    for i, job in ipairs(jobs) do assert.equal(ids[i], job.id) end
    assert.same({ 1, { 2 }, redmoon.null }, { jobs[1].payload, jobs[2].payload, jobs[3].payload })
    assert.same({}, queue:pop_many(1))
    assert.same({}, queue:pop_many(1, 0.05))
    local value, _, code = queue:push_many { { payload = 1 }, { payload = print } }
    assert.is_nil(value)
    assert.equal("CODEC", code)
    assert.equal(0, queue:stats().ready)
  end)

  it("pushes a request once", function()
    local id = assert(queue:push("x", { request_id = "r" }))
    assert.equal(id, queue:push("x", { request_id = "r" }))
    local ids = assert(queue:push_many({ { payload = 1 }, { payload = 2 } }, { request_id = "s" }))
    assert.same(ids, queue:push_many({ { payload = 1 }, { payload = 2 } }, { request_id = "s" }))
    assert.equal(3, queue:stats().ready)
  end)

  it("hands out what it cannot decode without a payload", function()
    client:xadd(KEY, "*", "p", "{bad")
    local job = assert(queue:pop())
    assert.is_nil(job.payload)
    assert.equal("{bad", job.raw)
    assert.is_true(job:nack { fatal = true })
    local dead = queue:dead()[1]
    assert.is_nil(dead.payload)
    assert.equal("{bad", dead.raw)
    client:xadd(KEY, "*", "other", "1", "p", "2")
    client:xadd(KEY, "*", "other", "3")
    assert.same({ 2, 3 }, { queue:pop().payload, queue:pop().payload })
  end)

  it("passes payloads through a codec of one's own", function()
    local own = assert(client:stream_queue("own", { codec = { encode = string.upper, decode = string.lower } }))
    own:push("a")
    local job = own:pop()
    assert.same({ "a", "A" }, { job.payload, job.raw })
    local strings = assert(client:stream_queue("s", { codec = "string" }))
    strings:push("\0\255")
    assert.equal("\0\255", strings:pop().payload)
    helper.assert_failure("CODEC", strings:push({}))
  end)

  it("stands a codec that closes the queue", function()
    local own
    local function decode(bytes)
      own:close()
      return bytes
    end
    own = assert(client:stream_queue("own", { codec = { encode = tostring, decode = decode } }))
    assert(own:push_many { { payload = 1 }, { payload = 2 }, { payload = 3 } })
    local jobs = assert(own:pop_many(2))
    for i, job in ipairs(jobs) do
      assert.equal(tostring(i), job.payload)
      assert.is_true(job:ack())
    end
    own = assert(client:stream_queue("own", { codec = { encode = decode, decode = decode } }))
    assert.equal("3", own:pop().payload)
    for _, verb in ipairs { "push", "push_many" } do
      own = assert(client:stream_queue("own", { codec = { encode = decode, decode = decode } }))
      helper.assert_raises("closed", own[verb], own, verb == "push" and "x" or { { payload = "x" }, { payload = "y" } })
    end
  end)

  it("shares nothing between names and prefixes", function()
    local prefixed = helper.connect(way, { key_prefix = "p" })
    local theirs = prefixed:stream_queue("q")
    theirs:push("x")
    assert.is_nil(queue:pop())
    assert.is_nil(client:stream_queue("other"):pop())
    assert.equal("x", theirs:pop().payload)
    prefixed:close()
  end)

  it("tells what is wrong", function()
    for _, bad in ipairs { { lease = 0.05 }, { lease = 86401 }, { max_attempts = 0 }, { max_payload = 0 },
      { codec = "xml" }, { lees = 1 } } do
      helper.assert_raises("option", client.stream_queue, client, "q", bad)
    end
    helper.assert_raises("0 bytes", client.stream_queue, client, "")
    helper.assert_raises("timeout", queue.pop, queue, -1)
    helper.assert_raises("1 to 500", queue.pop_many, queue, 501)
    helper.assert_raises("1 to 500", queue.dead, queue, 0)
    helper.assert_raises("request_id", queue.push, queue, 1, { request_id = "a b" })
    helper.assert_raises("unknown option", queue.push, queue, 1, { delay = 1 })
    helper.assert_raises("item 1", queue.push_many, queue, { 1 })
    helper.assert_raises("item 1", queue.push_many, queue, { {} })
    helper.assert_raises("unknown option", queue.push_many, queue, { { payload = 1, delay = 2 } })
    local small = assert(client:stream_queue("q", { max_payload = 4 }))
    helper.assert_failure("TOO_LARGE", small:push("123"))
    client:set("redmoon:{t}:stream", "text")
    helper.assert_failure("WRONGTYPE", client:stream_queue("t"):pop())
    helper.assert_failure("WRONGTYPE", client:stream_queue("t"):push(1))
    queue:close()
    helper.assert_raises("closed", queue.pop, queue)
    local closed = helper.connect(way)
    closed:close()
    helper.assert_failure("CLOSED", closed:stream_queue("q"))
  end)
end)
