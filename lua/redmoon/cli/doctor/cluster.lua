-- SPDX-License-Identifier: MIT
-- doctor: a cluster as a whole: who can be reached, whether all slots are served, what would be lost with a node, and
-- whether its nodes are of one kind.

local format = require "redmoon.cli.format"
local nodes = require "redmoon.cli.doctor.nodes"

local M = {}

local SLOTS = 16384

-- Those that answer, and how many that is.
local function reached(list)
  local found = {}
  for _, node in ipairs(list) do
    if node.subject then found[#found + 1] = node end
  end
  return found
end

local function reachable(report, list)
  local lost, slowest, primaries = {}, 0, 0
  for _, node in ipairs(list) do
    primaries = primaries + (node.role == "primary" and 1 or 0)
    if node.why then lost[#lost + 1] = node else slowest = math.max(slowest, node.seconds) end
  end
  local values = { known = #list, primaries = primaries, unreachable = #lost }
  if #lost == 0 then
    return report:ok("nodes", ("%s, %s: all answer from here, the slowest dial took %s"):format(
      format.plural(primaries, "primary", "primaries"), format.plural(#list - primaries, "replica"),
      format.latency(slowest)), values)
  end
  for _, node in ipairs(lost) do
    report:failure("nodes", ("%s (%s) cannot be reached from here: %s"):format(node.address, node.role, node.why),
      "clients need every node: see whether it runs, what it announces (cluster-announce-ip, -hostname, -port), and what "
        .. "is between", { address = node.address, role = node.role })
  end
end

-- CLUSTER INFO of a node as a table; nil and why.
local function facts_of(node)
  local text, message = node.client:call("CLUSTER", "INFO")
  if type(text) ~= "string" then return nil, message end
  local facts = {}
  for name, value in text:gmatch("([%w_]+):([^\r\n]*)") do facts[name] = tonumber(value) or value end
  return facts
end

local function addresses_of(list)
  local addresses = {}
  for i, node in ipairs(list) do addresses[i] = node.address end
  return addresses
end

-- What each node thinks of the cluster, by address; those that say something else than "ok".
local function state(report, list)
  local failing, worst, known = {}, nil, {}
  for _, node in ipairs(list) do
    local facts, why = facts_of(node)
    if not facts then return report:skipped("cluster", why) end
    if facts.cluster_state ~= "ok" then failing[#failing + 1] = node.address end
    if not worst or (facts.cluster_slots_ok or 0) < worst.cluster_slots_ok then worst = facts end
    known[facts.cluster_known_nodes or 0] = true
  end
  if not worst then return report:skipped("cluster", "no node answers") end
  local assigned, ok = worst.cluster_slots_assigned or 0, worst.cluster_slots_ok or 0
  local function values()
    return { assigned = assigned, ok = ok, pfail = worst.cluster_slots_pfail, fail = worst.cluster_slots_fail }
  end
  if #failing > 0 then
    report:failure("cluster", ("cluster_state is not ok for %s"):format(nodes.names(failing, #list)),
      "commands answer CLUSTERDOWN there: bring back the nodes that serve the missing slots", { failing = failing })
  else
    report:ok("cluster", "cluster_state ok for " .. nodes.names(addresses_of(list), #list))
  end
  if assigned < SLOTS then
    report:failure("slots", ("%s of %s assigned"):format(format.count(assigned), format.count(SLOTS)),
      "give the others to a node: redis-cli --cluster fix", values())
  elseif ok < SLOTS then
    report:warning("slots", ("all assigned, %s on nodes that fail or are suspected"):format(format.count(SLOTS - ok)),
      "see which nodes fail", values())
  else
    report:ok("slots", ("all %s are served"):format(format.count(SLOTS)), values())
  end
  if next(known, next(known)) then
    report:warning("membership", "the nodes do not know of equally many others",
      "see CLUSTER NODES of each: one may have to CLUSTER FORGET or MEET another", {})
  end
end

-- Lines of CLUSTER NODES: whom that node takes for dead, and slots that are being moved.
local function view(report, list)
  local down, suspected, seen, open, moving = {}, {}, {}, 0, {}
  for _, node in ipairs(list) do
    local text, message = node.client:call("CLUSTER", "NODES")
    if type(text) ~= "string" then return report:skipped("failing nodes", message) end
    for line in text:gmatch("[^\n]+") do
      local address, flags = line:match("^%x+ (%S+) (%S+)")
      address = (address or "?"):match("^[^@,]*")
      local to = flags and (flags:find("fail?", 1, true) and suspected or flags:find("fail", 1, true) and down)
      if to and not seen[address] then
        seen[address] = true
        to[#to + 1] = address ~= "" and address or "one without address"
      end
      if flags and flags:find("myself,master", 1, true) then -- a replica of Valkey repeats what its primary says
        for slot in line:gmatch("%[(%d+)%->%-") do
          if not moving[slot] then open = open + 1 end
          moving[slot] = true
        end
      end
    end
  end
  if #down > 0 then
    report:failure("failing nodes", "taken for dead: " .. table.concat(down, ", "),
      "bring them back, or CLUSTER FORGET them on every node", { fail = down })
  end
  if #suspected > 0 then
    report:warning("failing nodes", "suspected by some node (pfail): " .. table.concat(suspected, ", "),
      "see whether they run, and what is between the nodes (the bus port, too)", { pfail = suspected })
  end
  if #down + #suspected == 0 then report:ok("failing nodes", "none, in the eyes of any node") end
  if open > 0 then
    report:warning("moving slots", ("%s being moved"):format(format.plural(open, "slot")),
      "if nobody moves slots now, something was interrupted: redis-cli --cluster fix", { open = open })
  end
end

local durable = { "lock", "queue", "blocklist", "sessions" }

local function replicas(report, subject, list)
  local bare, short, lost, primaries, lag = {}, {}, {}, 0, 0
  for _, node in ipairs(list) do
    local info = node.subject.info
    if info.role == "master" then
      local online, behind = nodes.replicas(info)
      primaries, lag = primaries + 1, math.max(lag, behind)
      if online == 0 then bare[#bare + 1] = node.address end
      if subject.min_replicas and online < subject.min_replicas then short[#short + 1] = node.address end
    elseif info.role and info.master_link_status ~= "up" then
      lost[#lost + 1] = node.address
    end
  end
  if primaries == 0 then return report:skipped("replication", "INFO does not tell the roles") end
  if #short > 0 then
    report:failure("replication", ("min_replicas = %d cannot be had on %s"):format(subject.min_replicas,
      nodes.names(short, primaries)), "add replicas, or ask for fewer", { short = short })
  end
  if #lost > 0 then
    report:failure("replication", "link to the primary down on " .. nodes.names(lost, #list),
      "it copies anew, or cannot reach its primary: see its log", { link_down = lost })
  end
  if #bare > 0 then
    local affected = subject:affected(durable)
    report:warning("replication", ("no replica of %s"):format(nodes.names(bare, primaries)),
      "with such a node its slots are gone, and everything in them" .. (affected and ": of " .. affected or ""),
      { without = bare })
  end
  if lag > 10 then
    report:warning("replication", ("a replica is %ds behind"):format(lag),
      "a failover now would lose that much: look at the replica's load", { lag = lag })
  end
  if #bare + #lost + #short == 0 and lag <= 10 then
    report:ok("replication", ("every primary has a replica online, the slowest %ds behind"):format(lag), { lag = lag })
  end
end

-- value -> addresses, and the values in order of who is named first.
local function by_value(list, value_of)
  local groups, order = {}, {}
  for _, node in ipairs(list) do
    local value = value_of(node)
    if value then
      if not groups[value] then
        groups[value] = {}
        order[#order + 1] = value
      end
      table.insert(groups[value], node.address)
    end
  end
  return groups, order
end

local function differing(groups, order, total)
  local parts = {}
  for i, value in ipairs(order) do parts[i] = ("%s on %s"):format(value, nodes.names(groups[value], total)) end
  return table.concat(parts, "; ")
end

local function versions(report, list)
  local groups, order = by_value(list, function(node)
    return node.subject.info.valkey_version or node.subject.info.redis_version
  end)
  if #order < 2 then return end
  report:warning("versions", differing(groups, order, #list), "finish the upgrade: nodes of one cluster belong together",
    { versions = order })
end

-- What should be the same everywhere: a replica takes its primary's place with its own.
local alike = { "maxmemory", "maxmemory-policy", "appendonly", "maxclients", "timeout", "cluster-node-timeout",
  "cluster-require-full-coverage" }

local function settings(report, list)
  local different = false
  for _, name in ipairs(alike) do
    local groups, order = by_value(list, function(node) return (node.subject:setting(name)) end)
    if #order > 1 then
      different = true
      report:warning("settings", ("%s differs: %s"):format(name, differing(groups, order, #list)),
        "set it to the same everywhere: after a failover another node's counts", { setting = name })
    end
  end
  local known, why = list[1].subject:setting(alike[1])
  if not known then return report:skipped("settings", why) end
  if not different then report:ok("settings", "the same on all nodes: " .. table.concat(alike, ", ")) end
end

local function coverage(report, list)
  local groups, order = by_value(list, function(node) return (node.subject:setting("cluster-require-full-coverage")) end)
  if #order ~= 1 or groups.yes == nil and groups.no == nil then return end -- told, or skipped, with the settings
  report:ok("coverage", order[1] == "yes"
    and "cluster-require-full-coverage yes: while slots are without a node, no slot is served"
    or "cluster-require-full-coverage no: while slots are without a node, the others are served",
    { require_full_coverage = order[1] })
end

function M.examine(report, subject, all)
  reachable(report, all)
  local list = reached(all)
  state(report, list)
  view(report, list)
  replicas(report, subject, list)
  if #list == 0 then return end
  versions(report, list)
  settings(report, list)
  coverage(report, list)
end

return M
