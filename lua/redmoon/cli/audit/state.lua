-- SPDX-License-Identifier: MIT
-- The file in which an audit keeps what it needs to go on.

local failure = require "redmoon.cli.failure"
local terminal = require "redmoon.cli.terminal"

local state = {}
state.__index = state

local M = {}

local PAUSE = 20 -- seconds between two writes: a state may have megabytes

-- path nil: kept only if the audit is interrupted, in a file of the system's choice.
function M.new(path) return setmetatable({ path = path, written = terminal.now() }, state) end

-- What an earlier run left; nil for nothing.  That it cannot be written is said now, not at the end.
function state:load()
  if not self.path then return nil end
  failure.check("the state could not be written", io.open(self.path .. ".new", "wb")):close()
  os.remove(self.path .. ".new")
  local file <close>, message, number = io.open(self.path, "rb")
  if file then return failure.check(self.path, file:read("a")) end
  if number ~= 2 then failure.raise("%s", message) end -- ENOENT: it begins
  return nil
end

-- The old content stays until the new one is whole.
local function write(path, content)
  local draft = path .. ".new"
  local file <close> = failure.check("the state could not be written", io.open(draft, "wb"))
  failure.check("the state could not be written", file:write(content))
  failure.check("the state could not be written", file:close())
  failure.check("the state could not be written", os.rename(draft, path))
end

-- Called between two pages; save() gives the state.
function state:keep(save)
  local now = terminal.now()
  if not self.path or now - self.written < PAUSE then return end
  write(self.path, save())
  self.written = now
end

-- Of an audit that ended before its time: says how to go on.
function state:stop(content)
  self.path = self.path or os.tmpname()
  write(self.path, content)
  terminal.note("What was counted is kept. To go on: redmoon audit --resume %s", self.path)
end

-- Of an audit that is complete.
function state:finish()
  if self.path then os.remove(self.path) end
end

return M
