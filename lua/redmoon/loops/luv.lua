-- SPDX-License-Identifier: MIT
-- The event loop luv (https://github.com/luvit/luv), as Redmoon uses it: calls are made in coroutines, and the loop is
-- run by uv.run().  luv calls back on the coroutine that has loaded it, so load it (or connect) outside of all first.

local uv = require "luv"

local M = {}

-- Handles are never closed, but kept for the next wait: luv 1.44 crashes at the end of the process when one was closed
-- and the loop was not run after that.
local polls, timers = {}, {} -- by descriptor; idle ones

-- At the end of the state handles are finalised before what is older than they are: from then on none may be touched.
local is_over = false
local function new_handle(handle)
  return setmetatable({ handle = assert(handle) }, { __gc = function() is_over = true end })
end

local function resume(co)
  local ok, message = coroutine.resume(co)
  if not ok then error(debug.traceback(co, message), 0) end
end

-- One wait of a coroutine, for a descriptor, a time, or both.  It ends when the coroutine goes on, whoever lets it.
local wait = {}
wait.__index = wait

function wait.__close(self)
  self.co = nil
  if is_over then return end
  if self.poll then self.poll.handle:stop() end
  if self.timer then
    self.timer.handle:stop()
    timers[#timers + 1] = self.timer
  end
end

local function begin(fd, events, seconds)
  local self = setmetatable({ co = coroutine.running() }, wait)
  local function wake()
    if self.co then resume(self.co) end
  end
  if fd then
    polls[fd] = polls[fd] or new_handle(uv.new_poll(fd))
    self.poll = polls[fd]
    assert(self.poll.handle:start(events, wake))
  end
  if seconds then
    self.timer = table.remove(timers) or new_handle(uv.new_timer())
    self.timer.handle:start(math.ceil(seconds * 1000), 0, wake)
  end
  return self
end

-- Waits until fd is readable, or `seconds` are over (nil: without end).
function M.wait(fd, events, seconds)
  local _ <close> = begin(fd, events, seconds)
  coroutine.yield()
end

-- The descriptor is about to be closed.
function M.forget(fd)
  if polls[fd] and not is_over then polls[fd].handle:stop() end
end

-- What is parked has one timer together, which is set to the first of their times: they come and go by the batch, and
-- hardly ever is one waited out.  Whoever goes on takes itself out, so that an error of one does not cost the others; a
-- coroutine that was closed is found dead.
local parked, count, woken = {}, 0, {} -- by key: {key =, co = coroutine, at = uv.now() or nil}
local turn, alarm, alarm_at

local function unpark(one)
  if parked[one.key] ~= one then return end
  parked[one.key] = nil
  count = count - 1
  if count > 0 or not alarm_at or is_over then return end
  alarm_at = nil
  alarm.handle:stop() -- so that the loop may end
end

local function go_on(one)
  if one.co and coroutine.status(one.co) == "suspended" then
    resume(one.co)
  else
    unpark(one)
  end
end

local ring
local function set_alarm(at)
  if is_over or alarm_at and alarm_at <= at then return end
  alarm = alarm or new_handle(uv.new_timer())
  alarm_at = at
  alarm.handle:start(math.max(at - uv.now(), 0), 0, ring)
end

function ring()
  local now, late, first = uv.now(), {}, math.huge
  alarm_at = nil
  for _, one in pairs(parked) do
    local at = one.at or math.huge
    if at <= now then late[#late + 1] = one end
    first = math.min(first, at)
  end
  if first < math.huge then set_alarm(first) end -- with late ones it rings once more, though one of them raises
  for i = 1, #late do go_on(late[i]) end
end

-- What is woken goes on in a turn of the loop, all of a batch in the same one.
local function resume_woken()
  local now = woken
  woken = {}
  for i = 1, #now do go_on(now[i]) end
end

-- Waits until wake(key), or until `seconds` are over.
function M.park(key, seconds)
  local at = seconds and uv.now() + math.ceil(seconds * 1000)
  local one = { key = key, co = coroutine.running(), at = at }
  if not parked[key] then count = count + 1 end
  parked[key] = one
  if at then set_alarm(at) end
  coroutine.yield()
  one.co = nil
  unpark(one)
end

function M.wake(key)
  local one = parked[key]
  if not one or one.woken or is_over then return end
  one.woken = true
  woken[#woken + 1] = one
  if #woken > 1 then return end
  turn = turn or new_handle(uv.new_timer())
  turn.handle:start(0, 0, resume_woken)
end

function M.sleep(seconds)
  local _ <close> = begin(nil, nil, seconds)
  coroutine.yield()
end

-- Runs fn(...) in a coroutine of its own, at once.
function M.spawn(fn, ...)
  local co = coroutine.create(fn)
  local ok, message = coroutine.resume(co, ...)
  if not ok then error(debug.traceback(co, message), 0) end
end

return M
