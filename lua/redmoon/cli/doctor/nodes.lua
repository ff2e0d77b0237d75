-- SPDX-License-Identifier: MIT
-- doctor: the nodes of a cluster, each looked at as a server of its own; what is the same of several is one line.

local connection = require "redmoon.cli.connection"
local reports = require "redmoon.cli.doctor.report"
local subjects = require "redmoon.cli.doctor.subject"

local M = {}

-- The nodes as of connection.nodes, those that answer with their subject.
function M.dial(args, client)
  local list = connection.nodes(args, client, { client_name = "redmoon-doctor" })
  for _, node in ipairs(list) do
    if node.client then node.subject = subjects.new(args, node.client) end
  end
  return list
end

local SHOWN = 3

-- "127.0.0.1:7000", "127.0.0.1:7000, 127.0.0.1:7001 and 4 more"; all of several: "all 6 nodes".
function M.names(addresses, total)
  if #addresses == total and total > 1 then return ("all %d nodes"):format(total) end
  if #addresses <= SHOWN then return table.concat(addresses, ", ") end
  return ("%s and %d more"):format(table.concat(addresses, ", ", 1, SHOWN - 1), #addresses - SHOWN + 1)
end

-- Findings that say the same of their nodes: what is fine by its name alone, the rest by what is to be done, too.
local function group_of(groups, finding)
  local key = finding.id .. "\0" .. finding.status .. "\0" .. (finding.status ~= "ok" and finding.advice or "")
  local group = groups[key]
  if not group then
    group = { finding = finding, addresses = {}, is_same = true }
    groups[key] = group
    groups[#groups + 1] = group
  end
  group.is_same = group.is_same and finding.text == group.finding.text
  return group
end

local rank = { failure = 1, warning = 2, skipped = 3, ok = 4 }

function M.examine(report, list, checks)
  local total = 0
  for _, node in ipairs(list) do total = total + (node.subject and 1 or 0) end
  for _, check in ipairs(checks) do
    local groups = {}
    for _, node in ipairs(list) do
      local own = reports.new()
      if node.subject then check(own, node.subject) end
      for _, finding in ipairs(own.findings) do
        local group = group_of(groups, finding)
        group.addresses[#group.addresses + 1] = node.address
      end
    end
    table.sort(groups, function(a, b) return rank[a.finding.status] < rank[b.finding.status] end)
    for _, group in ipairs(groups) do
      local text = M.names(group.addresses, total) .. (group.is_same and ": " or "; " .. group.addresses[1] .. ": ")
        .. group.finding.text
      report:adopt(group.finding, text, group.addresses)
    end
  end
end

-- Replicas that are online, as their primary sees them: how many, and the greatest lag.
function M.replicas(info)
  local online, worst = 0, 0
  for name, value in pairs(info) do
    if name:find("^slave%d+$") and value:find("state=online", 1, true) then
      online = online + 1
      worst = math.max(worst, tonumber(value:match("lag=(%d+)")) or 0)
    end
  end
  return online, worst
end

return M
