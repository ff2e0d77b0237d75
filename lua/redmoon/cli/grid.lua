-- SPDX-License-Identifier: MIT
-- A table of rows for the eye: columns aligned, the first one cut so that a line fits the terminal.

local terminal = require "redmoon.cli.terminal"

local M = {}

local function widths(columns, rows)
  local list = {}
  for i, column in ipairs(columns) do
    list[i] = terminal.columns(column.title)
    for _, row in ipairs(rows) do list[i] = math.max(list[i], terminal.columns(row[i])) end
  end
  return list
end

-- The first column gives way, down to 12 columns.
local function fit(list, limit)
  if not limit then return end
  local total = 2 * (#list - 1)
  for _, width in ipairs(list) do total = total + width end
  if total > limit then list[1] = math.max(math.min(list[1], 12), list[1] - (total - limit)) end
end

local function cell(column, text, width, is_last)
  local space = (" "):rep(math.max(0, width - terminal.columns(text)))
  if column.right then return space .. text end
  return is_last and text or text .. space
end

local function line(columns, list, row)
  local parts = {}
  for i, column in ipairs(columns) do
    local text = i == 1 and terminal.cut(row[i], list[i]) or row[i]
    parts[i] = cell(column, text, list[i], i == #columns)
  end
  return table.concat(parts, "  ")
end

-- Lines of the table.  columns: {title=, right=}; rows: arrays of texts, those of the first column without colours.
function M.lines(columns, rows, limit)
  local list = widths(columns, rows)
  fit(list, limit)
  local titles = {}
  for i, column in ipairs(columns) do titles[i] = column.title end
  local lines = { terminal.paint("dim", line(columns, list, titles)) }
  for _, row in ipairs(rows) do lines[#lines + 1] = line(columns, list, row) end
  return lines
end

function M.print(columns, rows)
  for _, text in ipairs(M.lines(columns, rows, terminal.width())) do terminal.print("%s", text) end
end

return M
