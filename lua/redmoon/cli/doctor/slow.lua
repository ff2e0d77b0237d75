-- SPDX-License-Identifier: MIT
-- doctor: what was slow of late.  Of a command only its name is told: arguments may be secret.

local format = require "redmoon.cli.format"
local json = require "redmoon.cli.json"

local M = {}

local SLOW = 0.1 -- seconds: everybody else waits that long

-- The slowest entry, and how many there are.
local function worst(entries)
  local slowest, command, at = 0, nil, nil
  for _, entry in ipairs(entries) do
    local seconds = entry[3] / 1e6
    if seconds > slowest then slowest, command, at = seconds, entry[4][1], entry[2] end
  end
  return slowest, command, at
end

function M.log(report, subject)
  local entries, message = subject.client:slowlog("GET", 128)
  if not entries then return report:skipped("slow log", message) end
  local values = { entries = #entries }
  if #entries == 0 then return report:ok("slow log", "empty", values) end
  local seconds, command, at = worst(entries)
  local time = subject.client:time()
  local ago = time and at and math.max(0, tonumber(time[1]) - at) or 0
  values.slowest, values.command, values.ago = seconds, command, ago
  local text = ("%s; the slowest is %s with %s, %s ago"):format(format.plural(#entries, "command"),
    (command or "?"):upper(), format.latency(seconds), format.duration(ago))
  if seconds < SLOW then return report:ok("slow log", text, values) end
  report:warning("slow log", text, "everybody waits for it: SLOWLOG GET shows what it was; take less at a time", values)
end

function M.latency(report, subject)
  local setting, why = subject:setting("latency-monitor-threshold")
  if not setting then return report:skipped("latency", why) end
  local threshold = tonumber(setting)
  if threshold == 0 then
    return report:ok("latency", "not watched by the server (latency-monitor-threshold is 0)", { threshold = 0 })
  end
  local events, message = subject.client:latency("LATEST")
  if not events then return report:skipped("latency", message) end
  local values = { threshold = threshold, events = json.array {} }
  local most, name = 0, nil
  for i, event in ipairs(events) do
    values.events[i] = { event = event[1], max = event[4] / 1000 }
    if event[4] > most then most, name = event[4], event[1] end
  end
  if not name then return report:ok("latency", ("nothing took %d ms or more"):format(threshold), values) end
  local text = ("the longest was %s with %s"):format(name, format.latency(most / 1000))
  if most / 1000 < SLOW then return report:ok("latency", text, values) end
  report:warning("latency", text, "LATENCY DOCTOR explains it", values)
end

return M
