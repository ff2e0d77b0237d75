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

-- What is parked goes on in a turn of the loop, all of a batch in the same one.
local parked, woken, turn = setmetatable({}, { __mode = "v" }), {}, nil

local function resume_woken()
  local now = woken
  woken = {}
  for _, one in ipairs(now) do
    if one.co then resume(one.co) end
  end
end

-- Waits until wake(key), or until `seconds` are over.
function M.park(key, seconds)
  local self <close> = begin(nil, nil, seconds)
  parked[key] = self
  coroutine.yield()
  parked[key] = nil
end

function M.wake(key)
  local one = parked[key]
  if not one or is_over then return end
  parked[key] = nil
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
