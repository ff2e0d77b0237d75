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

-- Whether it is how Lua's own interpreter reports Ctrl-C.
function M.is_interrupt(value) return type(value) == "string" and value:find("interrupted!$") ~= nil end

return M
