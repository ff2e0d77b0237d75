-- SPDX-License-Identifier: MIT
-- The event loop luv (https://github.com/luvit/luv), as Redmoon uses it: calls are made in coroutines, and the loop is run
-- by uv.run().

local uv = require "luv"

local M = {}
local polls = {} -- by descriptor: its handle, kept while the descriptor is

local function resume(co)
  local ok, message = coroutine.resume(co)
  if not ok then error(debug.traceback(co, message), 0) end
end

-- Waits until fd is readable, or `seconds` are over (nil: without end).
function M.wait(fd, events, seconds)
  local co, poll, timer = coroutine.running(), polls[fd], nil
  if not poll then
    poll = assert(uv.new_poll(fd))
    polls[fd] = poll
  end
  local function wake()
    if not co then return end
    local waiting = co
    co = nil
    if timer then timer:close() end
    if not poll:is_closing() then poll:stop() end
    resume(waiting)
  end
  if seconds then
    timer = assert(uv.new_timer())
    timer:start(math.ceil(seconds * 1000), 0, wake)
  end
  assert(poll:start(events, wake))
  coroutine.yield()
end

-- The descriptor is about to be closed.
function M.forget(fd)
  local poll = polls[fd]
  polls[fd] = nil
  if poll and not poll:is_closing() then poll:close() end
end

function M.running() return coroutine.isyieldable() end

function M.sleep(seconds)
  local co, timer = coroutine.running(), assert(uv.new_timer())
  timer:start(math.ceil(seconds * 1000), 0, function()
    timer:close()
    resume(co)
  end)
  coroutine.yield()
end

-- Runs fn(...) in a coroutine of its own, at once.
function M.spawn(fn, ...)
  local co = coroutine.create(fn)
  local ok, message = coroutine.resume(co, ...)
  if not ok then error(debug.traceback(co, message), 0) end
end

return M
