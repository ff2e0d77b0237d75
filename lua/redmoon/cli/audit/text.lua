-- SPDX-License-Identifier: MIT
-- The report of an audit for the eye: a table by prefix, the lifetimes as a histogram, expiry cliffs, warnings.

local chart = require "redmoon.cli.chart"
local format = require "redmoon.cli.format"
local grid = require "redmoon.cli.grid"
local terminal = require "redmoon.cli.terminal"

local M = {}

local MOST_ROWS = 40

local function memory(group)
  if not group.bytes then return "-" end
  local text = format.bytes(group.bytes)
  if not group.bytes_high or group.bytes == 0 then return text end
  local off = math.max(group.bytes_high - group.bytes, group.bytes - (group.bytes_low or group.bytes)) / group.bytes
  if off < 0.005 then return text end
  return ("%s %s%.0f %%"):format(text, terminal.has_blocks() and "\u{b1}" or "+-", 100 * off)
end

local function span(seconds) return seconds and format.duration(seconds) or "-" end

local function cliff(group)
  if not group.max_cliff_at or group.max_cliff_keys < 2 then return "-" end
  return format.share(group.max_cliff_keys, group.keys)
end

local columns = {
  { title = "prefix" }, { title = "keys", right = true }, { title = "no TTL", right = true },
  { title = "memory", right = true }, { title = "TTL median", right = true }, { title = "p99", right = true },
  { title = "cliff", right = true },
}

local function row(name, group)
  local immortal = format.count(group.no_ttl)
  return { name, format.count(group.keys), group.no_ttl > 0 and terminal.paint("warning", immortal) or immortal,
    memory(group), span(group.ttl_p50), span(group.ttl_p99), cliff(group) }
end

local function name_of(group) return group.prefix == "" and "(none)" or terminal.safe(group.prefix) end

local function print_table(report)
  local rows = {}
  for i = 1, math.min(#report.prefixes, MOST_ROWS) do
    rows[i] = row(name_of(report.prefixes[i]), report.prefixes[i])
  end
  if report.other then rows[#rows + 1] = row("(other)", report.other) end
  rows[#rows + 1] = row("(all)", report.total)
  grid.print(columns, rows)
  local hidden = #report.prefixes - MOST_ROWS
  if hidden > 0 then
    terminal.print("%s more in --json and --prometheus", format.plural(hidden, "prefix", "prefixes"))
  end
end

local SHORT = 1.024 -- seconds, the end of a bucket: those below are one line

-- Lines of the histogram of lifetimes, as of chart.histogram.
function M.histogram_rows(total)
  local rows, short = {}, 0
  local function add(label, keys, style)
    rows[#rows + 1] = { label = label, value = keys, text = format.count(keys), style = style }
  end
  for _, bucket in ipairs(total.ttl_histogram) do
    if bucket.to <= SHORT then short = short + bucket.keys end
  end
  if short > 0 then add("less than 1s", short) end
  for _, bucket in ipairs(total.ttl_histogram) do
    if bucket.to > SHORT then
      add(("%s to %s"):format(format.duration(bucket.from), format.duration(bucket.to)), bucket.keys)
    end
  end
  if total.no_ttl > 0 then add("no TTL", total.no_ttl, "warning") end
  return rows
end

local function print_histogram(total)
  local rows = M.histogram_rows(total)
  if #rows == 0 then return end
  terminal.print("")
  terminal.title("Lifetimes")
  for _, line in ipairs(chart.histogram(rows, terminal.width())) do terminal.print("%s", line) end
end

local STEEP = 0.05 -- share of a prefix in ten seconds that is worth a line
local MANY = 100

local function print_cliffs(report)
  local rows = {}
  for _, group in ipairs(report.prefixes) do
    if group.max_cliff_at and group.max_cliff >= STEEP and group.max_cliff_keys >= MANY and #rows < 10 then
      rows[#rows + 1] = { label = terminal.cut(name_of(group), 24), value = group.max_cliff, style = "warning",
        text = ("%s keys (%s) at %s"):format(format.count(group.max_cliff_keys),
          format.share(group.max_cliff_keys, group.keys), os.date("!%F %T UTC", math.floor(group.max_cliff_at))) }
    end
  end
  if #rows == 0 then return end
  terminal.print("")
  terminal.title("Expiry cliffs: most keys that end within the same 10 seconds")
  for _, line in ipairs(chart.histogram(rows, terminal.width())) do terminal.print("%s", line) end
end

local styles = { violation = "failure", warning = "warning", note = "dim" }

local function print_warnings(warnings)
  if #warnings == 0 then return end
  terminal.print("")
  for _, warning in ipairs(warnings) do
    terminal.print("%s %s", terminal.paint(styles[warning.level], ("%-9s"):format(warning.level)),
      terminal.safe(warning.message))
  end
end

local roles = { master = "primary", slave = "replica" }

local function primaries_of(nodes)
  local count = 0
  for _, node in ipairs(nodes) do count = count + (node.state ~= "left" and 1 or 0) end
  return format.plural(count, "primary", "primaries")
end

local function heading(report, url)
  local server = report.server
  local about = { url }
  if report.nodes then about[#about + 1] = primaries_of(report.nodes) end
  if server.version then about[#about + 1] = "version " .. terminal.safe(server.version) end
  if server.role and not report.nodes then about[#about + 1] = roles[server.role] or terminal.safe(server.role) end
  about[#about + 1] = format.plural(report.total.keys, "key") .. " counted"
  if not report.complete then about[#about + 1] = "not to the end" end
  return table.concat(about, ", ")
end

function M.print(report, url)
  terminal.title(heading(report, url))
  terminal.print("")
  if report.total.keys == 0 then
    terminal.print("There are no keys.")
  else
    print_table(report)
    print_histogram(report.total)
    print_cliffs(report)
  end
  print_warnings(report.warnings)
end

return M
