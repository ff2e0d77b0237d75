-- SPDX-License-Identifier: MIT
-- One look at a server: INFO, its connections by who holds them, its commands.

local connection = require "redmoon.cli.connection"
local terminal = require "redmoon.cli.terminal"

local M = {}

-- "127.0.0.1:50412" -> "127.0.0.1"; of a unix socket its path.
local function host_of(address)
  if address:find("/", 1, true) then return (address:gsub(":0$", "")) end
  return address:match("^%[?(.-)%]?:%d+$") or address
end

-- A line of CLIENT LIST as a table.
local function parse(line)
  local fields = {}
  for name, value in line:gmatch("([%w%-]+)=(%S*)") do fields[name] = value end
  return fields
end

local function add(group, fields)
  group.connections = group.connections + 1
  local idle = tonumber(fields.idle) or 0
  group.longest_idle = math.max(group.longest_idle, idle)
  group.memory = group.memory + (tonumber(fields["tot-mem"]) or 0)
  group.waiting = group.waiting + (tonumber(fields.omem) or 0)
  if fields.flags:find("b", 1, true) then
    group.blocked = group.blocked + 1
  elseif fields.flags:find("[SM]") == nil and (tonumber(fields.sub) or 0) + (tonumber(fields.psub) or 0) > 0 then
    group.subscribed = group.subscribed + 1
  elseif idle == 0 then
    group.active = group.active + 1
  end
end

local function by_size(list)
  table.sort(list, function(a, b)
    if a.connections ~= b.connections then return a.connections > b.connections end
    return a.name .. "\0" .. a.host < b.name .. "\0" .. b.host
  end)
  return list
end

-- Pools as the server sees them: connections of one name from one host.  nil and why where that is not allowed.
function M.pools(client)
  local text, message = client:call("CLIENT", "LIST")
  if type(text) ~= "string" then return nil, message end
  local groups, list = {}, {}
  for line in text:gmatch("[^\n]+") do
    local fields = parse(line)
    local host = host_of(fields.addr or "")
    local key = (fields.name or "") .. "\0" .. host
    if not groups[key] then
      groups[key] = { name = fields.name or "", host = host, user = fields.user, connections = 0, active = 0, blocked = 0,
        subscribed = 0, longest_idle = 0, memory = 0, waiting = 0 }
      list[#list + 1] = groups[key]
    end
    add(groups[key], fields)
  end
  return by_size(list)
end

-- name -> {calls=, seconds=}, since the server was started; nil and why.
function M.commands(client)
  local text, message = client:info("commandstats")
  if type(text) ~= "string" then return nil, message end
  local commands = {}
  for name, calls, us in text:gmatch("cmdstat_([^:]+):calls=(%d+),usec=(%d+)") do
    commands[name] = { calls = tonumber(calls), seconds = tonumber(us) / 1e6 }
  end
  return commands
end

-- What of several nodes has one name from one host is one pool.
local function join_pools(samples)
  local groups, list = {}, {}
  for _, sample in ipairs(samples) do
    for _, pool in ipairs(sample.pools or {}) do
      local key = pool.name .. "\0" .. pool.host
      local group = groups[key]
      if not group then
        groups[key] = pool
        list[#list + 1] = pool
      else
        for _, field in ipairs { "connections", "active", "blocked", "subscribed", "memory", "waiting" } do
          group[field] = group[field] + pool[field]
        end
        group.longest_idle = math.max(group.longest_idle, pool.longest_idle)
      end
    end
  end
  return by_size(list)
end

local function join_commands(samples)
  local all = {}
  for _, sample in ipairs(samples) do
    for name, one in pairs(sample.commands or {}) do
      local sum = all[name] or { calls = 0, seconds = 0 }
      all[name] = { calls = sum.calls + one.calls, seconds = sum.seconds + one.seconds }
    end
  end
  return all
end

local of_primaries = { "used_memory", "maxmemory", "instantaneous_ops_per_sec", "keyspace_hits", "keyspace_misses",
  "instantaneous_input_kbps", "instantaneous_output_kbps" }

-- INFO of a cluster: keys are with the primaries, connections with all.
local function join_info(nodes)
  local all, primaries = {}, 0
  for _, node in ipairs(nodes) do
    local info = node.info
    if info then
      local is_primary = info.role == "master"
      primaries = primaries + (is_primary and 1 or 0)
      for _, field in ipairs(of_primaries) do
        all[field] = (all[field] or 0) + (is_primary and tonumber(info[field]) or 0)
      end
      for _, field in ipairs { "connected_clients", "blocked_clients" } do
        all[field] = (all[field] or 0) + (tonumber(info[field]) or 0)
      end
      all.uptime_in_seconds = math.min(all.uptime_in_seconds or math.huge, tonumber(info.uptime_in_seconds) or 0)
      all.redis_version, all.valkey_version = info.redis_version, info.valkey_version
    end
  end
  all.role = ("%d primaries"):format(primaries)
  return all
end

-- nodes: as of connection.nodes.
local function take_all(nodes)
  local samples, why = {}, {}
  local joined = { at = terminal.now(), why = why, nodes = {} }
  for i, node in ipairs(nodes) do
    local shown = { address = node.address, role = node.role, why = node.why }
    joined.nodes[i] = shown
    if node.client then
      local began = terminal.now()
      local answer, message = node.client:ping()
      shown.round_trip = answer and terminal.now() - began
      local sample = answer and M.take(node.client) or { why = { info = message } }
      shown.info, shown.why = sample.info, sample.why.info
      for _, field in ipairs { "info", "pools", "commands" } do why[field] = why[field] or sample.why[field] end
      if sample.info then samples[#samples + 1] = sample end
    end
  end
  if #samples == 0 then return joined end
  joined.info, joined.pools, joined.commands = join_info(joined.nodes), join_pools(samples), join_commands(samples)
  return joined
end

-- Everything at once; what may not be seen is nil, and `why` tells it by field.  nodes: of a cluster; all of them.
function M.take(client, nodes)
  if nodes then return take_all(nodes) end
  local why = {}
  local sample = { at = terminal.now(), why = why }
  sample.info, why.info = connection.info(client)
  sample.pools, why.pools = M.pools(client)
  sample.commands, why.commands = M.commands(client)
  return sample
end

-- What each command did between two looks, the busiest first: {name=, rate=, mean=, share=}.
function M.between(first, second)
  local list, span = {}, math.max(1e-3, second.at - first.at)
  for name, now in pairs(second.commands or {}) do
    local before = first.commands and first.commands[name] or { calls = 0, seconds = 0 }
    local calls, seconds = now.calls - before.calls, now.seconds - before.seconds
    if calls > 0 and seconds >= 0 then
      list[#list + 1] = { name = name, rate = calls / span, mean = seconds / calls, share = seconds / span }
    end
  end
  table.sort(list, function(a, b)
    if a.share ~= b.share then return a.share > b.share end
    return a.name < b.name
  end)
  return list
end

return M
