-- SPDX-License-Identifier: MIT
-- What redmoon top shows, as lines.

local format = require "redmoon.cli.format"
local grid = require "redmoon.cli.grid"
local samples = require "redmoon.cli.top.sample"
local terminal = require "redmoon.cli.terminal"

local M = {}

local function number(info, field) return tonumber(info[field]) or 0 end

local function server_lines(sample, url)
  local info = sample.info
  if not info then return { terminal.paint("title", url), "INFO: " .. (sample.why.info or "") } end
  local limit = number(info, "maxmemory")
  local hits, misses = number(info, "keyspace_hits"), number(info, "keyspace_misses")
  local kind, version = "Redis", info.redis_version or "?"
  if info.valkey_version then kind, version = "Valkey", info.valkey_version end
  return {
    terminal.paint("title", url) .. ("  %s %s, %s, up for %s"):format(kind, version, info.role or "?",
      format.duration(number(info, "uptime_in_seconds"))),
    ("memory %s%s   clients %s (%s blocked)   %s commands/s   hits %s   in %s/s   out %s/s"):format(
      format.bytes(number(info, "used_memory")), limit > 0 and " of " .. format.bytes(limit) or "",
      format.count(number(info, "connected_clients")), format.count(number(info, "blocked_clients")),
      format.count(number(info, "instantaneous_ops_per_sec")), format.share(hits, hits + misses),
      format.bytes(number(info, "instantaneous_input_kbps") * 1024),
      format.bytes(number(info, "instantaneous_output_kbps") * 1024)),
  }
end

local pool_columns = { { title = "pool" }, { title = "from" }, { title = "connections", right = true },
  { title = "busy", right = true }, { title = "blocked", right = true }, { title = "subscribed", right = true },
  { title = "longest idle", right = true }, { title = "unread", right = true } }

local function pool_rows(pools, most)
  local rows = {}
  for i = 1, math.min(#pools, most) do
    local pool = pools[i]
    rows[i] = { pool.name ~= "" and terminal.safe(pool.name) or "(no name)", terminal.safe(pool.host),
      format.count(pool.connections), format.count(pool.active), format.count(pool.blocked),
      format.count(pool.subscribed), format.duration(pool.longest_idle), format.bytes(pool.waiting) }
  end
  return rows
end

local command_columns = { { title = "command" }, { title = "calls/s", right = true }, { title = "mean", right = true },
  { title = "share of time", right = true } }

local function command_rows(list, most)
  local rows = {}
  for i = 1, math.min(#list, most) do
    local each = list[i]
    rows[i] = { terminal.safe(each.name), format.count(each.rate), format.latency(each.mean),
      format.share(each.share, 1) }
  end
  return rows
end

local object_columns = { { title = "pattern" }, { title = "name" }, { title = "now", right = true } }

local function object_rows(list, most)
  local rows = {}
  for i = 1, math.min(#list, most) do
    rows[i] = { list[i].kind, terminal.safe(list[i].which), format.count(list[i].keys) }
  end
  return rows
end

local queue_columns = { { title = "queue" }, { title = "ready", right = true }, { title = "delayed", right = true },
  { title = "leased", right = true }, { title = "dead", right = true }, { title = "" } }

local function queue_rows(queues)
  local rows = {}
  for i, queue in ipairs(queues) do
    local dead = format.count(queue.dead)
    rows[i] = { terminal.safe(queue.name), format.count(queue.ready), format.count(queue.delayed),
      format.count(queue.leased), queue.dead > 0 and terminal.paint("warning", dead) or dead,
      queue.paused and "paused" or "" }
  end
  return rows
end

local function add(lines, columns, rows, otherwise)
  lines[#lines + 1] = ""
  if #rows == 0 then
    lines[#lines + 1] = terminal.paint("dim", terminal.safe(otherwise))
    return
  end
  for _, line in ipairs(grid.lines(columns, rows, terminal.width())) do lines[#lines + 1] = line end
end

local node_columns = { { title = "node" }, { title = "role" }, { title = "memory", right = true },
  { title = "clients", right = true }, { title = "commands/s", right = true }, { title = "hits", right = true },
  { title = "round trip", right = true } }

local roles = { master = "primary", slave = "replica" }

local function node_rows(nodes, most)
  local rows = {}
  for i = 1, math.min(#nodes, most) do
    local node, info = nodes[i], nodes[i].info
    if info then
      local hits, misses = number(info, "keyspace_hits"), number(info, "keyspace_misses")
      rows[i] = { terminal.safe(node.address), roles[info.role] or node.role, format.bytes(number(info, "used_memory")),
        format.count(number(info, "connected_clients")), format.count(number(info, "instantaneous_ops_per_sec")),
        hits + misses > 0 and format.share(hits, hits + misses) or "-", format.latency(node.round_trip) }
    else
      rows[i] = { terminal.safe(node.address), node.role, terminal.paint("failure", "no answer"), "", "", "", "" }
    end
  end
  return rows
end

-- first, second: two looks; objects: the walk, or nil; most: rows of each table.
function M.lines(first, second, objects, url, most)
  local lines = server_lines(second, url)
  if second.nodes then
    add(lines, node_columns, node_rows(second.nodes, most), "no nodes")
    if #second.nodes > most then
      lines[#lines + 1] = terminal.paint("dim", ("%d more nodes"):format(#second.nodes - most))
    end
  end
  add(lines, pool_columns, pool_rows(second.pools or {}, most), "pools: " .. (second.why.pools or "none"))
  add(lines, command_columns, command_rows(samples.between(first, second), most),
    "commands: " .. (second.why.commands or "none"))
  if objects then
    local queues = objects:queue_list(most)
    if #queues > 0 then add(lines, queue_columns, queue_rows(queues), "") end
    local list, is_whole = objects:list()
    add(lines, object_columns, object_rows(list, most), objects.why and "keys: " .. objects.why
      or is_whole and "no locks, limits or other objects of '" .. objects.prefix .. ":'" or "looking for keys ...")
    if not is_whole and #list > 0 then lines[#lines + 1] = terminal.paint("dim", "not all keys were looked at yet") end
  end
  return lines
end

return M
