-- SPDX-License-Identifier: MIT
-- How far something is, on stderr: a bar with rate and time left on a terminal, a line now and then elsewhere.

local chart = require "redmoon.cli.chart"
local format = require "redmoon.cli.format"
local terminal = require "redmoon.cli.terminal"

local progress = {}
progress.__index = progress

local M = {}

-- what: "keys"; quiet: show nothing.
function M.new(what, quiet)
  local fd = terminal.STDERR
  local now = terminal.now()
  local is_live = terminal.is_terminal(fd) and os.getenv("TERM") ~= "dumb"
  return setmetatable({
    what = what, quiet = quiet, fd = fd, is_live = is_live, began = now, began_at = nil,
    shown = is_live and 0 or now, pause = is_live and 0.1 or 5, drawn = false,
  }, progress)
end

local function rate_and_rest(self, done, total, now)
  local passed = now - self.began
  local rate = passed > 0 and (done - self.began_at) / passed or 0
  local left = rate > 0 and total and math.max(0, total - done) / rate or nil
  return rate, left
end

function progress:text(done, total, now, remark)
  local rate, left = rate_and_rest(self, done, total, now)
  local parts = { format.count(done) .. (total and " of " .. format.count(total) or "") .. " " .. self.what }
  if rate > 0 then parts[#parts + 1] = format.count(rate) .. "/s" end
  if left and left >= 1 then parts[#parts + 1] = format.duration(math.ceil(left)) .. " left" end
  parts[#parts + 1] = remark or nil
  return table.concat(parts, ", ")
end

local function draw(self, done, total, text)
  local percent = total and total > 0 and math.min(100, math.floor(100 * done / total)) or nil
  local width = (terminal.width(self.fd) or 80) - terminal.columns(text) - 10
  local bar = ""
  if percent and width >= 8 then
    width = math.min(width, 40)
    local drawn = chart.bar(done, total, width)
    bar = ("%3d%% %s%s "):format(percent, terminal.paint("accent", drawn, self.fd),
      (" "):rep(width - terminal.columns(drawn)))
  end
  io.stderr:write("\r", bar, text, "\27[K")
  io.stderr:flush()
  self.drawn = true
end

-- total may be nil, or change; remark: what else there is to say, or nil.
function progress:show(done, total, remark)
  if self.quiet then return end
  self.began_at = self.began_at or done
  local now = terminal.now()
  if now - self.shown < self.pause then return end
  self.shown = now
  local text = self:text(done, total, now, remark)
  if self.is_live then draw(self, done, total, text) else terminal.note("%s", text) end
end

-- Takes the bar away, so that lines can follow.
function progress:clear()
  if self.drawn then
    io.stderr:write("\r\27[K")
    io.stderr:flush()
    self.drawn = false
  end
end

return M
