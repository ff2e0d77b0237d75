-- SPDX-License-Identifier: MIT
-- Runs the command-line tool as a process of its own, for the specs of it.

local helper = require "tests.lua.helper"

local M = {}

-- A sanitizer that is loaded into the tool finds leaks of script(1), too.
local script = "env -u LD_PRELOAD script"
local lua = arg and arg[-1] and arg[-1]:find("lua", 1, true) and arg[-1] or "lua5.4"
local dir

local function folder()
  if not dir then
    dir = helper.server().url:match("^unix://(/.*)/") .. "/cli"
    assert(os.execute("mkdir -p '" .. dir .. "'"))
  end
  return dir
end

function M.path(name) return folder() .. "/" .. name end

function M.read(path)
  local file <close> = assert(io.open(path, "rb"))
  return file:read("a")
end

function M.quote(text) return "'" .. text:gsub("'", "'\\''") .. "'" end

-- The words of a command line, for a shell; options.env: {NAME = text or false to unset}.
function M.command(words, options)
  local parts = { "env" }
  local env = { REDIS_URL = false, NO_COLOR = false, COLUMNS = false, LC_ALL = "C.UTF-8", TERM = "xterm",
    LD_PRELOAD = os.getenv("LD_PRELOAD") or false }
  for name, value in pairs(options and options.env or {}) do env[name] = value end
  for name, value in pairs(env) do
    if not value then parts[#parts + 1] = "-u " .. name end
  end
  for name, value in pairs(env) do
    if value then parts[#parts + 1] = name .. "=" .. M.quote(value) end
  end
  parts[#parts + 1] = M.quote(lua) .. " lua/bin/redmoon"
  for _, word in ipairs(words) do parts[#parts + 1] = M.quote(word) end
  return table.concat(parts, " ")
end

local function outcome(status)
  return { out = M.read(M.path "out"), err = M.read(M.path "err"), status = status }
end

-- Runs it to its end, without a terminal: {out=, err=, status=}.
function M.run(words, options)
  local line = ("%s >%s 2>%s <%s"):format(M.command(words, options), M.quote(M.path "out"), M.quote(M.path "err"),
    options and options.input and M.quote(options.input) or "/dev/null")
  local _, _, status = os.execute(line)
  return outcome(status)
end

-- The same with a pseudo-terminal as its stdin, stdout and stderr; options.typed: what a person types.
function M.run_in_terminal(words, options)
  local inside = "stty cols 100 rows 40 -echo; exec " .. M.command(words, options)
  local line = ("printf %%s %s | %s -qefc %s /dev/null >%s 2>%s"):format(M.quote(options and options.typed or ""), script,
    M.quote(inside), M.quote(M.path "out"), M.quote(M.path "err"))
  local _, _, status = os.execute(line)
  return outcome(status)
end

-- Starts it in a pseudo-terminal, in the background: a file to type into, and a function that waits for its end.  The
-- limit is for a test that fails before that.
function M.start_in_terminal(words, options)
  local fifo = M.path "typed"
  os.remove(fifo)
  os.remove(M.path "out")
  assert(os.execute("mkfifo " .. M.quote(fifo)))
  local line = ("timeout 60 " .. script .. " -qefc %s /dev/null <%s >%s 2>%s; echo $?"):format(
    M.quote("stty cols 100 rows 40 -echo; exec " .. M.command(words, options)), M.quote(fifo), M.quote(M.path "out"),
    M.quote(M.path "err"))
  local running = assert(io.popen(line, "r"))
  local keyboard = assert(io.open(fifo, "w"))
  keyboard:setvbuf("no")
  return keyboard, function()
    local status = running:read("n")
    running:close()
    keyboard:close()
    return outcome(status)
  end
end

-- Whether what was started has shown this text.
function M.has_shown(text)
  local file <close> = io.open(M.path "out", "rb")
  return file ~= nil and file:read("a"):find(text, 1, true) ~= nil
end

-- Starts it in the background: its process id.
function M.start(words, options)
  local line = ("%s >%s 2>%s </dev/null & echo $!; wait $!; echo $? >%s"):format(
    "exec " .. M.command(words, options), M.quote(M.path "out"), M.quote(M.path "err"), M.quote(M.path "status"))
  os.remove(M.path "status")
  local file = assert(io.popen("( " .. line .. " )", "r"))
  return file:read("n"), file
end

-- Sends a signal to what was started, and waits for its end.
function M.finish(pid, file, signal)
  assert(os.execute(("kill -%s %d"):format(signal, pid)))
  file:close()
  return outcome(tonumber(M.read(M.path "status")))
end

return M
