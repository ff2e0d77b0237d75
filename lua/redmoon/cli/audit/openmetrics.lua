-- SPDX-License-Identifier: MIT
-- The report of an audit as OpenMetrics text, which Prometheus reads: for a file of node_exporter's textfile collector.

local terminal = require "redmoon.cli.terminal"

local M = {}

local function escape(text)
  local odd = utf8.len(text) and "[%c\127]" or "[^\32-\126]"
  return (text:gsub("\\", "\\\\"):gsub('"', '\\"'):gsub(odd, function(byte) return ("\\\\x%02x"):format(byte:byte()) end))
end

local function number(value)
  if math.type(value) == "integer" then return ("%d"):format(value) end
  if value == math.huge then return "+Inf" end
  return value == math.floor(value) and math.abs(value) < 2 ^ 53 and ("%.0f"):format(value) or ("%.10g"):format(value)
end

-- name, help, of a group: value or nil
local families = {
  { "keys", "Keys by prefix.", function(group) return group.keys end },
  { "keys_without_ttl", "Keys that live for ever.", function(group) return group.no_ttl end },
  { "keys_below_min_ttl", "Keys whose TTL is below the smallest allowed.", function(group) return group.below_min end },
  { "keys_above_max_ttl", "Keys whose TTL is above the greatest allowed.", function(group) return group.above_max end },
  { "bytes", "Estimate of the memory of the keys.", function(group) return group.bytes end },
  { "bytes_low", "Lower end of its 99.9 % interval.", function(group) return group.bytes_low end },
  { "bytes_high", "Upper end of its 99.9 % interval.", function(group) return group.bytes_high end },
  { "ttl_median_seconds", "Median of the TTLs.", function(group) return group.ttl_p50 end },
  { "ttl_p99_seconds", "99th percentile of the TTLs.", function(group) return group.ttl_p99 end },
  { "cliff_ratio", "Greatest share of keys that expire within 10 seconds.", function(group) return group.max_cliff end },
}

local function groups_of(report)
  local list = {}
  for i, group in ipairs(report.prefixes) do list[i] = { ('prefix="%s"'):format(escape(group.prefix)), group } end
  if report.other then list[#list + 1] = { 'prefix="",rest="true"', report.other } end
  return list
end

local function add_family(lines, name, help)
  lines[#lines + 1] = ("# TYPE redmoon_audit_%s gauge"):format(name)
  lines[#lines + 1] = ("# HELP redmoon_audit_%s %s"):format(name, help)
end

local function add_groups(lines, report)
  local groups = groups_of(report)
  for _, family in ipairs(families) do
    add_family(lines, family[1], family[2])
    for _, each in ipairs(groups) do
      local value = family[3](each[2])
      if value then lines[#lines + 1] = ("redmoon_audit_%s{%s} %s"):format(family[1], each[1], number(value)) end
    end
  end
end

-- How many keys end within so many seconds.
local function add_histogram(lines, total)
  add_family(lines, "keys_by_ttl", "Keys whose TTL is at most le seconds.")
  local sum = 0
  for _, bucket in ipairs(total.ttl_histogram) do
    sum = sum + bucket.keys
    lines[#lines + 1] = ('redmoon_audit_keys_by_ttl{le="%s"} %d'):format(number(bucket.to), sum)
  end
  lines[#lines + 1] = ('redmoon_audit_keys_by_ttl{le="+Inf"} %d'):format(sum)
end

local function add_levels(lines, warnings)
  local counts = { violation = 0, warning = 0, note = 0 }
  for _, warning in ipairs(warnings) do counts[warning.level] = counts[warning.level] + 1 end
  add_family(lines, "findings", "What the audit found, by level.")
  for _, level in ipairs { "violation", "warning", "note" } do
    lines[#lines + 1] = ('redmoon_audit_findings{level="%s"} %d'):format(level, counts[level])
  end
end

function M.text(report)
  local lines = {}
  add_groups(lines, report)
  add_histogram(lines, report.total)
  add_levels(lines, report.warnings)
  add_family(lines, "complete", "1: all keys were seen.")
  lines[#lines + 1] = "redmoon_audit_complete " .. (report.complete and 1 or 0)
  lines[#lines + 1] = "# EOF"
  return table.concat(lines, "\n")
end

function M.print(report) terminal.print("%s", M.text(report)) end

return M
