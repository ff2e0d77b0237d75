-- SPDX-License-Identifier: MIT
-- What the specs about event loops share: the loops, one of the specs' own, and calls of every kind.

local M = {}

-- Each loop: run(fn, ...) runs functions in coroutines of their own until all have ended.
M.each = {}

function M.each.cqueues(...)
  local controller = require("cqueues").new()
  for _, fn in ipairs { ... } do controller:wrap(fn) end
  assert(controller:loop())
end

function M.each.luv(...)
  local uv = require "luv"
  for _, fn in ipairs { ... } do assert(coroutine.resume(coroutine.create(fn))) end
  uv.run()
end

function M.each.copas(...)
  local copas = require "copas"
  local left, failure = select("#", ...), nil
  for _, fn in ipairs { ... } do
    copas.addthread(function()
      local ok, message = xpcall(fn, debug.traceback)
      left, failure = left - 1, failure or (not ok and message)
    end)
  end
  while left > 0 do copas.step(1) end
  if failure then error(failure, 0) end
end

-- A scheduler in a few lines: it steps whoever waits, in turn, and never looks at a descriptor.
function M.new()
  local waiting, forgotten = {}, {}
  local loop = { forgotten = forgotten }
  function loop.wait(fd, events, seconds)
    assert(events == "r" and (seconds == nil or seconds >= 0))
    waiting[#waiting + 1] = coroutine.running()
    coroutine.yield(fd)
  end
  function loop.forget(fd) forgotten[#forgotten + 1] = fd end
  function loop.turn()
    local now = waiting
    waiting = {}
    for _, co in ipairs(now) do
      if coroutine.status(co) == "suspended" then assert(coroutine.resume(co)) end
    end
    return #now > 0
  end
  -- Nobody keeps it any more.
  function loop.drop(co)
    for i, other in ipairs(waiting) do
      if other == co then return table.remove(waiting, i) end
    end
  end
  function loop.run(fn)
    assert(coroutine.resume(coroutine.create(fn)))
    while loop.turn() do end
  end
  return loop
end

-- A job that may be another's, whose lease may be over.
local function finish(queue)
  local job <close> = queue:pop(0.2)
  if not job then return end
  job:extend()
  job:ack()
end

-- Calls of each kind, which may be ended at each of their waits: what they leave behind lasts for moments.
M.calls = {
  command = function(client, tag) assert(client:echo(tag) == tag) end,
  pipeline = function(client, tag)
    local replies = assert(client:pipeline(function(p) p:echo(tag) end))
    assert(replies[1] == tag)
  end,
  transaction = function(client, tag)
    local replies = assert(client:transaction("k:" .. tag, function(tx)
      tx:get("k:" .. tag)
      tx:multi()
      tx:echo(tag)
    end))
    assert(replies[1] == tag)
  end,
  lock = function(client)
    local lock <close> = client:lock("l", { ttl = 0.05, wait = 9 })
    if lock then lock:extend() end
  end,
  counter = function(client) assert(client:counter("c"):increment("k")) end,
  record = function(client, tag)
    local records = client:records("r", { fields = { a = "string" } })
    assert(records:save(tag, { a = tag }))
    assert(records:load(tag).a == tag)
  end,
  limit = function(client)
    assert(client:rate_limiter({ algorithm = "gcra", limit = 100000, window = 1 }):allow("k"))
  end,
  permit = function(client)
    local permit <close> = client:semaphore("s", { permits = 10000, ttl = 0.05 }):acquire()
    if permit then permit:extend() end
  end,
  scan = function(client)
    local count = 0
    for _ in client:scan { match = "l*", count = 100 } do count = count + 1 end
    return count
  end,
  ["list queue"] = function(client, tag)
    local queue <close> = assert(client:list_queue("list"))
    assert(queue:push(tag))
    assert(queue:length())
    queue:pop(0.05)
  end,
  ["stream queue"] = function(client, tag)
    local queue <close> = assert(client:stream_queue("stream", { lease = 0.1 }))
    assert(queue:push(tag))
    finish(queue)
  end,
  queue = function(client, tag)
    local queue <close> = assert(client:queue("jobs", { lease = 0.1, max_crashes = 1000 }))
    assert(queue:push(tag))
    finish(queue)
  end,
  cache = function(client, tag)
    local cache <close> = assert(client:cache { name = "cache", ttl = 0.05, lease = 0.01, on_error = "load" })
    local function load(key)
      assert(client:echo(key) == key)
      return key
    end
    assert(cache:get(tag, load) == tag)
    cache:get("shared", load)
    local values = assert(cache:get_many({ tag, tag .. "!" }, function(keys)
      local loaded = {}
      for _, key in ipairs(keys) do loaded[key] = load(key) end
      return loaded
    end))
    assert(values[1] == tag and values[2] == tag .. "!")
    assert(cache:delete(tag))
  end,
  subscription = function(client, tag)
    local subscription <close> = assert(client:subscribe { channels = { tag } })
    assert(client:publish(tag, tag) == 1)
    local message = assert(subscription:receive(5))
    assert(message.payload == tag)
    assert(subscription:add { patterns = { tag .. "*" } })
  end,
  topic = function(client, tag)
    local topic <close> = assert(client:topic("topic:" .. tag))
    local reader <close> = assert(topic:subscribe())
    assert(topic:publish(tag))
    assert(assert(reader:receive(5)).payload == tag)
  end,
  topic_cursor = function(client, tag)
    local topic <close> = assert(client:topic("durable:" .. tag, { durable = true }))
    assert(topic:remove_reader("r") ~= nil) -- of a call with this tag that was closed
    local reader <close> = assert(topic:reader("r"))
    assert(topic:publish(tag))
    assert(assert(reader:receive(5)).payload == tag)
    assert(reader:receive(0.02) == nil)
    assert(reader:ack())
  end,
  audit = function(client) assert(client:audit { match = "l*" }) end,
}

return M
