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
  table.sort(list, function(a, b)
    if a.connections ~= b.connections then return a.connections > b.connections end
    return a.name .. "\0" .. a.host < b.name .. "\0" .. b.host
  end)
  return list
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

-- Everything at once; what may not be seen is nil, and `why` tells it by field.
function M.take(client)
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
