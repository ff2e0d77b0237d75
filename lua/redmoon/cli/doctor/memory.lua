-- SPDX-License-Identifier: MIT
-- doctor: memory: its limit, what is thrown away at the limit, and buffers that can grow.

local format = require "redmoon.cli.format"

local M = {}

function M.limit(report, subject)
  local used, limit = subject:number("used_memory"), subject:number("maxmemory")
  if not used or not limit then return report:skipped("memory", "INFO does not tell it") end
  local machine = subject:number("total_system_memory") or 0
  local values = { used = used, limit = limit, machine = machine }
  if limit == 0 then
    return report:warning("memory", ("%s in use, no limit"):format(format.bytes(used)),
      "set maxmemory, well below the machine's memory: without it the system ends the server when memory is out", values)
  end
  local text = ("%s of %s in use, %s"):format(format.bytes(used), format.bytes(limit), format.share(used, limit))
  if used >= 0.95 * limit then
    return report:failure("memory", text, "there is next to no room: raise maxmemory, or find what fills it with "
      .. "'redmoon audit'", values)
  end
  if used >= 0.8 * limit then
    return report:warning("memory", text, "it fills up: 'redmoon audit' shows by what", values)
  end
  if machine > 0 and limit > 0.8 * machine then
    return report:warning("memory", ("%s; the machine has %s"):format(text, format.bytes(machine)),
      "a snapshot can take as much again: keep maxmemory below about 60 % of the machine's", values)
  end
  report:ok("memory", text, values)
end

-- What must not go before its time, by how the server chooses.
local precious = { "lock", "read-write-lock", "semaphore", "fence-guard", "blocklist", "queue", "sessions", "counter",
  "rate-limiter" }

local function evicting(report, subject, policy, limit, evicted)
  local values = { policy = policy, evicted = evicted }
  local affected = subject:affected(precious)
  local text = policy .. (evicted > 0 and (", %s thrown away so far"):format(format.plural(evicted, "key")) or "")
  if not affected then return report:ok("eviction", text .. ": as a cache wants it", values) end
  local advice = ("keys of these may go before their time: %s; give them a server with noeviction"):format(affected)
  if limit == 0 then
    return report:warning("eviction", text .. ", without effect as long as there is no limit", advice, values)
  end
  report[subject:severity(precious)](report, "eviction", text, advice, values)
end

function M.eviction(report, subject)
  local policy, limit = subject.info.maxmemory_policy, subject:number("maxmemory") or 0
  local evicted = subject:number("evicted_keys") or 0
  if not policy then return report:skipped("eviction", "INFO does not tell the policy") end
  if policy ~= "noeviction" then return evicting(report, subject, policy, limit, evicted) end
  local text = limit == 0 and "noeviction: nothing is thrown away"
    or "noeviction: nothing is thrown away; at the limit writes answer OOM"
  report:ok("eviction", text, { policy = policy, evicted = evicted })
end

-- "normal 0 0 0 slave 268435456 67108864 60 pubsub ..." -> {normal = {hard=, soft=, seconds=}}
local function parse_limits(text)
  local limits = {}
  for class, hard, soft, seconds in text:gmatch("(%a+) (%d+) (%d+) (%d+)") do
    limits[class] = { hard = tonumber(hard), soft = tonumber(soft), seconds = tonumber(seconds) }
  end
  return limits
end

local GREAT = 64 * 1024 * 1024

-- The class whose buffers may grow without end or to much of the memory, and to what.  Those of replicas are not
-- counted by maxmemory.
local function greatest(limits, memory)
  local pubsub, replica = limits.pubsub, limits.replica or limits.slave
  if pubsub and (pubsub.hard == 0 or memory > 0 and pubsub.hard > memory / 4) then return "pubsub", pubsub.hard end
  if replica and replica.hard == 0 then return "replica", 0 end
end

function M.buffers(report, subject)
  local text, why = subject:setting("client-output-buffer-limit")
  if not text then return report:skipped("output buffers", why) end
  local recent = subject:number("client_recent_max_output_buffer") or 0
  local values = { limits = parse_limits(text), recent_max = recent }
  if recent > GREAT then
    return report:warning("output buffers", ("a client had %s waiting to be read"):format(format.bytes(recent)),
      "ask for less at once (SCAN, ranges), or find who does not read: CLIENT LIST, omem=", values)
  end
  local memory = subject:number("maxmemory") or 0
  if memory == 0 then memory = subject:number("total_system_memory") or 0 end
  local class, hard = greatest(values.limits, memory)
  if class then
    return report:warning("output buffers", ("those of %s clients may grow %s"):format(class,
      hard == 0 and "without end" or "to " .. format.bytes(hard)), "set client-output-buffer-limit for that class",
      values)
  end
  report:ok("output buffers", ("limited; the greatest of late was %s"):format(format.bytes(recent)), values)
end

return M
