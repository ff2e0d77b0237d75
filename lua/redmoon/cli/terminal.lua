-- SPDX-License-Identifier: MIT
-- What can be shown where: colours, characters, width.  stdout holds results; stderr progress, questions and errors.

local system = require("redmoon.core").system

local M = {
  STDIN = 0, STDOUT = 1, STDERR = 2,
  is_terminal = system.is_terminal,
  now = system.now,
  wall = system.wall,
  sleep = system.sleep,
}

local codes = {
  bold = "1", dim = "2", good = "32", warning = "33", failure = "1;31", accent = "36", title = "1",
}
local coloured = { [M.STDOUT] = false, [M.STDERR] = false }

local function is_set(name)
  local value = os.getenv(name)
  return value ~= nil and value ~= ""
end

-- `when` is "auto", "always" or "never", of --color.
function M.setup(when)
  for fd in pairs(coloured) do
    if when == "auto" then
      coloured[fd] = not is_set("NO_COLOR") and os.getenv("TERM") ~= "dumb" and system.is_terminal(fd)
    else
      coloured[fd] = when == "always"
    end
  end
end

-- The text in a style, where `fd` (default: stdout) shows colours.
function M.paint(style, text, fd)
  if not coloured[fd or M.STDOUT] or text == "" then return text end
  return ("\27[%sm%s\27[0m"):format(codes[style], text)
end

-- Whether block characters are understood: as the locale says.
function M.has_blocks()
  local locale
  for _, name in ipairs { "LC_ALL", "LC_CTYPE", "LANG" } do
    if is_set(name) then
      locale = os.getenv(name)
      break
    end
  end
  return locale ~= nil and locale:upper():find("UTF%-?8") ~= nil
end

-- Columns of the terminal; nil where there is none.
function M.width(fd)
  fd = fd or M.STDOUT
  if not system.is_terminal(fd) then return nil end
  return system.size(fd) or tonumber(os.getenv("COLUMNS")) or 80
end

function M.rows() return select(2, system.size(M.STDOUT)) or 24 end

-- What comes from a server is shown without control characters: a key may hold those that move the cursor.
-- Valid UTF-8 stays, where the locale has it.
function M.safe(text)
  local function escape(byte) return ("\\x%02x"):format(byte:byte()) end
  if M.has_blocks() and utf8.len(text) and not text:find("\u{80}[\u{80}-\u{9f}]") then
    return (text:gsub("[%c\127]", escape):gsub("\xc2[\x80-\x9f]", function(two) return two:gsub(".", escape) end))
  end
  return (text:gsub("[^\32-\126]", escape))
end

-- How many columns a text takes, without colours: one for each character.
function M.columns(text)
  local plain = text:gsub("\27%[[%d;]*m", "")
  return utf8.len(plain) or #plain
end

-- The text cut to `width` columns; it must hold no colours.
function M.cut(text, width)
  if M.columns(text) <= width then return text end
  local mark = M.has_blocks() and "\u{2026}" or "~"
  if width <= 1 then return mark end
  if not utf8.len(text) then return text:sub(1, width - 1) .. mark end
  return text:sub(1, utf8.offset(text, width) - 1) .. mark
end

local is_whole = true

-- To stdout.
function M.write(text)
  if not io.stdout:write(text) then is_whole = false end
end

-- Whether all of it has gone where it should.
function M.finish() return io.stdout:flush() and is_whole end

function M.print(format, ...)
  M.write((select("#", ...) > 0 and format:format(...) or format) .. "\n")
end

function M.title(text) M.print(M.paint("title", text)) end

-- A remark that is no result.
function M.note(format, ...)
  io.stderr:write(select("#", ...) > 0 and format:format(...) or format, "\n")
end

return M
