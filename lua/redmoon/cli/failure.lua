-- SPDX-License-Identifier: MIT
-- Exit statuses, and the one way in which a subcommand ends early.

local M = {
  FINE = 0,       -- all is well
  VIOLATIONS = 1, -- it was done, and something is not as it should be
  ERROR = 2,      -- it could not be done
  INTERRUPTED = 130,
}

local failure = { __tostring = function(self) return self.message end }

-- Ends the subcommand: one line on stderr, status 2.
function M.raise(format, ...)
  error(setmetatable({ message = select("#", ...) > 0 and format:format(...) or format }, failure), 0)
end

function M.is(value) return getmetatable(value) == failure end

-- For calls that fail with nil, message, code: gives their values, or ends the subcommand.  `what` begins the line.
function M.check(what, value, ...)
  if value == nil and select("#", ...) > 0 then M.raise("%s: %s", what, (...)) end
  return value, ...
end

local function unwrapped(done, ...)
  if done then return ... end
  local problem = ...
  if type(problem) ~= "string" or M.is_interrupt(problem) then error(problem, 0) end
  M.raise("%s", (problem:gsub("^[^:%s]+:%d+: ", "")))
end

-- Calls fn; what it raises about its arguments ends the subcommand in a line: they came from the command line.
function M.call(fn, ...) return unwrapped(pcall(fn, ...)) end

-- Whether it is how Lua's own interpreter reports Ctrl-C.
function M.is_interrupt(value) return type(value) == "string" and value:find("interrupted!$") ~= nil end

return M
