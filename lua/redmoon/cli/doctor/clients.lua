-- SPDX-License-Identifier: MIT
-- doctor: connections: pools against maxclients, and how idle ones end.

local format = require "redmoon.cli.format"

local M = {}

local SPARE = 32 -- connections of people, monitoring and replicas

function M.pools(report, subject)
  local most = subject:number("maxclients") or tonumber((subject:setting("maxclients")))
  local connected = subject:number("connected_clients")
  if not most or not connected then return report:skipped("pools", "neither INFO nor CONFIG tells maxclients") end
  local needed = subject.pool_size * subject.processes
  local values = { maxclients = most, connected = connected, pool_size = subject.pool_size,
    processes = subject.processes, needed = needed }
  local text = ("pool_size %d x %s = %s; maxclients %s, %s connected"):format(subject.pool_size,
    format.plural(subject.processes, "process", "processes"), format.count(needed),
    format.count(most), format.count(connected))
  if needed + SPARE > most then
    local advice = ("at most %d fit: lower pool_size, or raise maxclients (and the server's limit of open files)")
      :format(math.max(0, (most - SPARE) // subject.processes))
    return report:failure("pools", text, advice, values)
  end
  if connected > 0.8 * most then
    return report:warning("pools", text, "it is nearly full: find who holds them with 'redmoon top'", values)
  end
  local rejected = subject:number("rejected_connections") or 0
  if rejected > 0 then
    return report:warning("pools", ("%s; %s refused since the start"):format(text, format.plural(rejected, "connection")),
      "maxclients was reached: raise it, or lower pool_size", values)
  end
  report:ok("pools", text, values)
end

-- The client closes idle connections after this long, unless it is told otherwise.
local MAX_IDLE_TIME = 300

function M.idle(report, subject)
  local timeout, why = subject:setting("timeout")
  if not timeout then return report:skipped("idle", why) end
  local keepalive = tonumber((subject:setting("tcp-keepalive"))) or 0
  local values = { timeout = tonumber(timeout), tcp_keepalive = keepalive }
  local closes = ("the server closes connections that are idle for %s"):format(format.duration(values.timeout))
  if values.timeout > 0 and values.timeout <= MAX_IDLE_TIME then
    return report:warning("idle", closes, ("set max_idle_time below %d, or raise the server's timeout"):format(
      values.timeout), values)
  end
  if keepalive == 0 then
    return report:warning("idle", "tcp-keepalive is off: connections of machines that are gone stay for ever",
      "set tcp-keepalive 300", values)
  end
  report:ok("idle", values.timeout == 0 and "the server closes no idle connection" or closes, values)
end

return M
