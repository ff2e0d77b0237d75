-- SPDX-License-Identifier: MIT
-- What the doctor found: one finding for each thing looked at.

local json = require "redmoon.cli.json"
local terminal = require "redmoon.cli.terminal"

local report = {}
report.__index = report

local M = {}

function M.new() return setmetatable({ findings = json.array {} }, report) end

local function add(self, status, id, text, advice, values)
  local finding = values or {}
  finding.id, finding.status, finding.text, finding.advice = id, status, text, advice
  self.findings[#self.findings + 1] = finding
end

-- id: a word; text: what was seen; advice: what to do; values: numbers for --json.
function report:ok(id, text, values) add(self, "ok", id, text, nil, values) end
function report:warning(id, text, advice, values) add(self, "warning", id, text, advice, values) end
function report:failure(id, text, advice, values) add(self, "failure", id, text, advice, values) end
-- It could not be looked at.
function report:skipped(id, why) add(self, "skipped", id, why) end

-- A finding of another report, under another text.
function report:adopt(finding, text, nodes)
  local copy = {}
  for name, value in pairs(finding) do copy[name] = value end
  copy.text, copy.nodes = text, json.array(nodes)
  self.findings[#self.findings + 1] = copy
end

function report:count(status)
  local count = 0
  for _, finding in ipairs(self.findings) do
    if finding.status == status then count = count + 1 end
  end
  return count
end

local styles = { ok = "good", warning = "warning", failure = "failure", skipped = "dim" }

-- The text in lines of `width`, broken at blanks.
local function wrap(text, width)
  local lines, line = {}, nil
  for word in text:gmatch("%S+") do
    if line and terminal.columns(line) + 1 + terminal.columns(word) > width then
      lines[#lines + 1] = line
      line = nil
    end
    line = line and line .. " " .. word or word
  end
  lines[#lines + 1] = line
  return lines
end

local margin = (" "):rep(24)

local function print_finding(finding, width)
  local mark = ("%-8s"):format(finding.status)
  for i, line in ipairs(wrap(terminal.safe(finding.text), width)) do
    local head = i == 1 and ("%s %-15s"):format(terminal.paint(styles[finding.status], mark), finding.id) or margin
    terminal.print("%s%s", i == 1 and head or margin, line)
  end
  if not finding.advice then return end
  for i, line in ipairs(wrap(terminal.safe(finding.advice), width - 3)) do
    terminal.print("%s%s%s", margin, terminal.paint("accent", i == 1 and "-> " or "   "), line)
  end
end

function report:print()
  local width = math.max(40, math.min(110, terminal.width() or 110) - #margin)
  for _, finding in ipairs(self.findings) do print_finding(finding, width) end
end

return M
