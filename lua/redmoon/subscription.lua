-- SPDX-License-Identifier: MIT
-- subscription:on_message(fn): a coroutine of the event loop hands each event to a function, until the subscription ends.

local core = require "redmoon.core"

local M = {}

local delivering = setmetatable({}, { __mode = "k" }) -- subscriptions that have a function

-- What went wrong is told to on_error; without one, or when that raises itself, by warn().
local function tell(on_error, message, code, detail, event)
  if on_error then
    local ok, why = pcall(on_error, message, code, detail, event)
    if ok then return end
    message = why
  end
  warn("redmoon: a subscription's on_message: ", tostring(message))
end

-- The body of the coroutine.  An error of fn's is that event's alone.
local function deliver(sub, fn, on_error)
  while true do
    local event, message, code, detail = core.subscription_next(sub)
    if event == nil then
      if code ~= "CLOSED" then tell(on_error, message, code, detail) end
      return
    end
    local ok, why = pcall(fn, event)
    if not ok then tell(on_error, why, nil, nil, event) end
  end
end

local function check_function(name, value, optional)
  if type(value) == "function" or optional and value == nil then return end
  error(("on_message: %s is a %s; it takes a function"):format(name, type(value)), 3)
end

-- fn(event) for each message and gap, one after the other, in a coroutine of its own: it may wait, and what comes
-- meanwhile is buffered.  on_error(message, code, detail, event): what fn raised (then with the event), or why the
-- subscription has ended; not that it was closed.  `spawn` is client:subscribe's, which has asked the loop itself.
function M.on_message(sub, fn, on_error, spawn)
  check_function("the first argument", fn)
  check_function("the second argument", on_error, true)
  spawn = spawn or core.subscription_spawn(sub)
  if not spawn then
    error("on_message: there is no event loop to call the function from (option 'loop', with a spawn); "
      .. "use receive or messages", 2)
  end
  if delivering[sub] then error("on_message: this subscription has a function already", 2) end
  delivering[sub] = true
  spawn(deliver, sub, fn, on_error)
  return true
end

return M
