-- SPDX-License-Identifier: MIT
-- Says what is going to be changed, and asks.

local failure = require "redmoon.cli.failure"
local terminal = require "redmoon.cli.terminal"

local M = {}

-- Returns when it may be done; `yes` is the option --yes, `plan` the lines that say what will happen.
function M.ask(yes, plan)
  for _, line in ipairs(plan) do terminal.note("%s", line) end
  if yes then return end
  if not terminal.is_terminal(terminal.STDIN) or not terminal.is_terminal(terminal.STDERR) then
    failure.raise("nothing was changed: this is no terminal to ask on; --yes does it")
  end
  io.stderr:write("Go on? [y/N] ")
  io.stderr:flush()
  local answer = io.stdin:read("l")
  if not answer or not answer:lower():find("^%s*y") then failure.raise("nothing was changed") end
end

return M
