-- SPDX-License-Identifier: MIT
-- The undo log of audit fix: a line for each key, "<Unix time at which it ends, or ?> <key, as of a Lua string>".

local failure = require "redmoon.cli.failure"

local log = {}
log.__index = log

local M = {}

local HEADER = "# redmoon audit fix: keys that got a TTL; redmoon audit undo <this file> takes it back"

local function quoted(key)
  return (key:gsub('[^\32-\126]', function(byte) return ("\\x%02x"):format(byte:byte()) end))
end

-- Backslashes first, or a key with "\x41" in it would come back as another.
local function encode(key) return quoted((key:gsub("\\", "\\\\"))) end

local function decode(text)
  return (text:gsub("\\(x?)(.)(%x?)", function(x, first, second)
    if x == "" then return first .. second end
    return string.char(tonumber(first .. second, 16))
  end))
end

-- Appends to what is there: a fix that was interrupted goes on in the same file.
function M.create(path)
  local file = failure.check("the undo log", io.open(path, "ab"))
  file:setvbuf("line")
  if file:seek("end") == 0 then failure.check(path, file:write(HEADER, "\n")) end
  return setmetatable({ file = file, path = path }, log)
end

-- fixed: of redmoon.audit_fixed
function log:add(fixed)
  local ends = fixed.expires and ("%.3f"):format(fixed.expires) or "?"
  failure.check(self.path, self.file:write(ends, " ", encode(fixed.key), "\n"))
end

function log:close() self.file:close() end
log.__close = log.close

-- Entries {key=, expires=}, and how many have no time.
function M.read(path)
  local file <close> = failure.check("the undo log", io.open(path, "rb"))
  local entries, unknown, number = {}, 0, 0
  for line in file:lines() do
    number = number + 1
    local ends, key = line:match("^([%d.?]+) (.*)$")
    if ends == "?" then
      unknown = unknown + 1
    elseif ends and tonumber(ends) then
      entries[#entries + 1] = { key = decode(key), expires = tonumber(ends) }
    elseif not line:find("^#") then
      failure.raise("%s:%d: this is no line of an undo log", path, number)
    end
  end
  return entries, unknown
end

return M
