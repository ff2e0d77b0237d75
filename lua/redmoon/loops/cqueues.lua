-- SPDX-License-Identifier: MIT
-- The event loop cqueues (http://25thandclement.com/~william/projects/cqueues.html), as Redmoon uses it.

local cqueues = require "cqueues"
local condition = require "cqueues.condition"

local M = {}

-- Waits until fd is readable, or `seconds` are over (nil: without end).
function M.wait(fd, events, seconds)
  cqueues.poll({ pollfd = fd, events = events }, seconds)
end

-- The descriptor is about to be closed: without this cqueues would take a new one of the same number for it.
function M.forget(fd) cqueues.cancel(fd) end

-- A coroutine that is gone has taken its condition with it.
local parked, idle = setmetatable({}, { __mode = "v" }), {}

-- Waits until wake(key), or until `seconds` are over.  No descriptor is in it.
function M.park(key, seconds)
  local bell = table.remove(idle) or condition.new()
  parked[key] = bell
  cqueues.poll(bell, seconds)
  parked[key] = nil
  idle[#idle + 1] = bell
end

function M.wake(key)
  local bell = parked[key]
  if bell then bell:signal() end
end

function M.running()
  local controller, is_its_own = cqueues.running()
  if controller and not is_its_own then
    error("redmoon: this call would have to wait, but its coroutine is not one of cqueues; make it by cqueues' wrap", 0)
  end
  return controller ~= nil
end

function M.sleep(seconds) cqueues.sleep(seconds) end

-- Runs fn(...) in a coroutine of its own.
function M.spawn(fn, ...) cqueues.running():wrap(fn, ...) end

return M
