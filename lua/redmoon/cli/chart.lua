-- SPDX-License-Identifier: MIT
-- Bars: block characters in eighths where the locale has them, else '#'.

local terminal = require "redmoon.cli.terminal"

local M = {}

local eighths = { "\u{258f}", "\u{258e}", "\u{258d}", "\u{258c}", "\u{258b}", "\u{258a}", "\u{2589}" }
local full = "\u{2588}"

-- A bar of part/whole of `width` columns; anything above zero is seen.
function M.bar(part, whole, width)
  local share = whole > 0 and math.min(1, math.max(0, part / whole)) or 0
  if not terminal.has_blocks() then
    local n = math.floor(share * width + 0.5)
    return ("#"):rep(part > 0 and math.max(1, n) or n)
  end
  local n = math.floor(share * width * 8 + 0.5)
  if part > 0 and n == 0 then n = 1 end
  return full:rep(n // 8) .. (eighths[n % 8] or "")
end

-- Lines of a histogram.  rows: {label=, value=, text=}; the greatest value fills the width.
function M.histogram(rows, limit)
  local label, text, most = 0, 0, 0
  for _, row in ipairs(rows) do
    label = math.max(label, terminal.columns(row.label))
    text = math.max(text, terminal.columns(row.text))
    most = math.max(most, row.value)
  end
  local width = math.max(10, math.min(50, (limit or 80) - label - text - 4))
  local lines = {}
  for i, row in ipairs(rows) do
    local bar = M.bar(row.value, most, width)
    local space = (" "):rep(width - terminal.columns(bar))
    lines[i] = ("%s%s  %s%s  %s%s"):format(row.label, (" "):rep(label - terminal.columns(row.label)),
      terminal.paint(row.style or "accent", bar), space, (" "):rep(text - terminal.columns(row.text)), row.text)
  end
  return lines
end

return M
