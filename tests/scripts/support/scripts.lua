-- SPDX-License-Identifier: MIT
-- The server-side scripts as they are sent: the text of scripts/<name>.lua with its includes expanded.
local M = {}

-- Root of the checkout, from where this file is.
M.root = debug.getinfo(1, "S").source:match("^@(.*)tests/scripts/support/[^/]*$")

function M.read(path)
  local file = assert(io.open(M.root .. path, "rb"))
  local text = file:read("a")
  file:close()
  return text
end

function M.expand(name)
  local text = "\n" .. M.read("scripts/" .. name .. ".lua")
  local found
  repeat -- an include may include others
    text, found = text:gsub('%f[^\n]%-%-%- @include "([%w_]+)"\n', function(include)
      return M.read("scripts/include/" .. include .. ".lua")
    end)
  until found == 0
  return text:sub(2)
end

-- Names of all scripts.
function M.names()
  local names = {}
  local listing = assert(io.popen("ls '" .. M.root .. "scripts'"))
  for line in listing:lines() do
    local name = line:match("^([%w_]+)%.lua$")
    if name then names[#names + 1] = name end
  end
  listing:close()
  return names
end

-- The same script with the time taken from one more argument, the last, in microseconds (at least seven digits).
function M.expand_timed(name)
  local text, seams = M.expand(name):gsub('local clock = redis%.call%("TIME"%)',
    'local at = table.remove(ARGV)\nlocal clock = {at:sub(1, -7), at:sub(-6)}')
  assert(seams == 1, name .. " does not read the clock exactly once")
  return text
end

return M
