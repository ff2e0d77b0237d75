-- SPDX-License-Identifier: MIT
-- redmoon [--url URL] <command>: reads the command line, runs a subcommand, gives its exit status.

local argparse = require "argparse"
local failure = require "redmoon.cli.failure"
local redmoon = require "redmoon"
local terminal = require "redmoon.cli.terminal"

local M = {}

-- In the order of the help text.
local commands = {}
for i, name in ipairs { "demo", "doctor", "audit", "queue", "top", "bench", "completion" } do
  commands[i] = require("redmoon.cli." .. name)
end

local epilog = [[
The server is that of --url, else of $REDIS_URL, else redis://127.0.0.1:6379/0. Words of a command
line can be seen by others of the machine: leave a password to $REDIS_URL.
Exit status: 0 fine, 1 something is not as it should be, 2 an error, 130 interrupted.]]

-- The parser; each subcommand adds itself.
function M.parser()
  local parser = argparse("redmoon", "Redis, looked after: checks, audits and measures a server.", epilog)
  parser:usage_max_width(100):help_max_width(100)
  parser:command_target("command"):require_command(false)
  parser:option("--url", "URL of the server."):argname("<url>")
  parser:option("--color", "Colours: auto (a terminal, and NO_COLOR is not set), always or never.")
    :choices { "auto", "always", "never" }:default("auto"):show_default(false)
  parser:flag("--version", "Print the version."):action(function()
    terminal.print("redmoon %s", redmoon.version)
    os.exit(failure.FINE, true)
  end)
  for _, command in ipairs(commands) do
    local defined = parser:command(command.name, command.summary, command.epilog)
    defined:usage_max_width(100):help_max_width(100)
    command.define(defined)
  end
  return parser
end

local function complain(message)
  io.stderr:write("redmoon: ", (message:gsub("%s*\n%s*", " ")), "\n")
end

local function parse(parser, words)
  local parsed, args = parser:pparse(words)
  if not parsed then
    failure.raise("%s", (args:gsub("\nDid you mean", "; did you mean")))
  end
  terminal.setup(args.color)
  return args
end

local function run(words)
  local parser = M.parser()
  local args = parse(parser, words)
  if not args.command then
    io.stderr:write(parser:get_help(), "\n")
    return failure.ERROR
  end
  for _, command in ipairs(commands) do
    if command.name == args.command then return command.run(args, parser) end
  end
end

-- One line about what ended the subcommand, and the status for it.
local function status_of(problem)
  if failure.is(problem) then
    complain(problem.message)
    return failure.ERROR
  end
  if failure.is_interrupt(problem) then
    complain("interrupted")
    return failure.INTERRUPTED
  end
  complain("this is a fault of the tool itself, please report it: " .. tostring(problem))
  return failure.ERROR
end

-- Runs the command line `words`; returns the exit status.
function M.main(words)
  local done, result = xpcall(run, function(problem)
    if os.getenv("REDMOON_TRACEBACK") and not failure.is(problem) then
      io.stderr:write(debug.traceback(tostring(problem), 2), "\n")
    end
    return problem
  end, words)
  local status = done and result or status_of(result)
  if not terminal.finish() then
    complain("the output could not be written")
    return failure.ERROR
  end
  return status
end

return M
