-- SPDX-License-Identifier: MIT
-- The event loop Copas (https://lunarmodules.github.io/copas/), as Redmoon uses it.  Copas waits for objects of
-- LuaSocket's kind, so each descriptor gets one that has to be asked twice.  Its first versions know no time: Redmoon's
-- descriptors become readable when the time is over, too (`timers = false`).

local copas = require "copas"

local M = { timers = false }

local Descriptor = {}
Descriptor.__index = Descriptor

function Descriptor:getfd() return self.fd end
function Descriptor.dirty() return false end
function Descriptor.settimeout() return true end
function Descriptor.close() return true end -- Copas closes what a finished coroutine waited for last

function Descriptor:receive()
  self.has_waited = not self.has_waited
  if self.has_waited then return nil, "timeout" end
  return true
end

local descriptors = {}

-- Waits until fd is readable.
function M.wait(fd)
  local descriptor = descriptors[fd]
  if not descriptor then
    descriptor = setmetatable({ fd = fd }, Descriptor)
    descriptors[fd] = descriptor
  end
  descriptor.has_waited = false
  copas.receive(descriptor)
end

-- The descriptor is about to be closed; -1 is left out by LuaSocket's select.
function M.forget(fd)
  if descriptors[fd] then descriptors[fd].fd = -1 end
  descriptors[fd] = nil
end

M.sleep = copas.pause or copas.sleep -- not in the first versions

-- Runs fn(...) in a coroutine of its own.  The first versions give it a socket before its arguments.
function M.spawn(fn, ...)
  local arguments = table.pack(...)
  copas.addthread(function() return fn(table.unpack(arguments, 1, arguments.n)) end)
end

return M
