-- SPDX-License-Identifier: MIT
-- doctor: what the server is: kind and version, role, replicas.

local format = require "redmoon.cli.format"
local nodes = require "redmoon.cli.doctor.nodes"

local M = {}

local function version_of(info)
  if info.valkey_version then return "Valkey", info.valkey_version end
  return info.server_name == "valkey" and "Valkey" or "Redis", info.redis_version
end

function M.version(report, subject)
  local kind, version = version_of(subject.info)
  if not version then return report:skipped("server", "INFO: " .. (subject.why_no_info or "no version")) end
  local major, minor = version:match("^(%d+)%.(%d+)")
  local uptime = subject:number("uptime_in_seconds") or 0
  local text = ("%s %s, %s, up for %s"):format(kind, version, subject.info.redis_mode or "standalone",
    format.duration(uptime))
  local values = { kind = kind, version = version, uptime = uptime, mode = subject.info.redis_mode }
  if kind == "Redis" and tonumber(major) * 100 + tonumber(minor) < 602 then
    return report:failure("server", text, "the scripts of the patterns need Redis 6.2 or Valkey", values)
  end
  local mode = subject.info.redis_mode
  if mode == "sentinel" then
    return report:failure("server", text, "this is a sentinel and holds no data: connect to the server it watches",
      values)
  end
  if mode == "cluster" and not subject.is_cluster then
    return report:warning("server", text,
      "this client talks to one node: keys of other nodes answer MOVED; redis+cluster:// talks to all", values)
  end
  report:ok("server", text, values)
end

local durable = { "lock", "queue", "blocklist", "sessions" }

local function as_primary(report, subject)
  local online, lag = nodes.replicas(subject.info)
  local values = { role = "master", replicas = online, lag = lag }
  local text = ("primary, %s online%s"):format(format.plural(online, "replica"),
    online > 0 and (", the slowest %ds behind"):format(lag) or "")
  local needed = tonumber((subject:setting("min-replicas-to-write"))) or 0
  if needed > online then
    return report:failure("replication", ("%s, but min-replicas-to-write is %d: writes are refused"):format(text, needed),
      "bring the replicas back, or lower min-replicas-to-write", values)
  end
  if subject.min_replicas and subject.min_replicas > online then
    return report:failure("replication", ("%s; min_replicas = %d cannot be had"):format(text, subject.min_replicas),
      "add replicas, or ask for fewer", values)
  end
  local affected = subject:affected(durable)
  if online == 0 and affected then
    return report:warning("replication", text, ("lost with this machine is everything of: %s"):format(affected),
      values)
  end
  if lag > 10 then
    return report:warning("replication", text, "a failover now would lose that much: look at the replica's load", values)
  end
  report:ok("replication", text, values)
end

function M.replication(report, subject)
  local role = subject.info.role
  if not role then return report:skipped("replication", "INFO does not tell the role") end
  if role == "master" then return as_primary(report, subject) end
  local state = subject.info.master_link_status or "unknown"
  report:failure("replication", ("replica of %s:%s, link %s: writes answer READONLY"):format(
    subject.info.master_host or "?", subject.info.master_port or "?", state),
    "connect to the primary", { role = "slave", link = state })
end

function M.loading(report, subject)
  if subject.info.loading ~= "1" then return end
  report:failure("loading", "the server is loading its data: commands answer LOADING", "wait until it is done")
end

return M
