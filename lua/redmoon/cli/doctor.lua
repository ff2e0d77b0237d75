-- SPDX-License-Identifier: MIT
-- redmoon doctor: looks at a server with the eyes of an application that is going to use it.  It changes nothing.

local acl = require "redmoon.cli.doctor.acl"
local clients = require "redmoon.cli.doctor.clients"
local cluster = require "redmoon.cli.doctor.cluster"
local connection = require "redmoon.cli.connection"
local durability = require "redmoon.cli.doctor.durability"
local failure = require "redmoon.cli.failure"
local format = require "redmoon.cli.format"
local json = require "redmoon.cli.json"
local link = require "redmoon.cli.doctor.link"
local memory = require "redmoon.cli.doctor.memory"
local nodes = require "redmoon.cli.doctor.nodes"
local options = require "redmoon.cli.options"
local reports = require "redmoon.cli.doctor.report"
local sentinel = require "redmoon.cli.doctor.sentinel"
local server = require "redmoon.cli.doctor.server"
local slow = require "redmoon.cli.doctor.slow"
local subjects = require "redmoon.cli.doctor.subject"
local terminal = require "redmoon.cli.terminal"

local M = {
  name = "doctor",
  summary = "Check connection, server, settings and pool arithmetic; nothing is changed.",
  epilog = [[
Every line is ok, a warning or a failure, with what to do; skipped is what could not be seen.
Exit status: 0 no failure, 1 a failure (with --strict: or a warning), 2 it cannot be reached.]],
}

function M.define(command)
  local names = acl.names()
  command:option("--uses", "What the application uses, of: " .. table.concat(names, ", ") ..
    ". What endangers it is a failure then; else anything may be used, and it is a warning.")
    :argname("<a,b,...>"):convert(options.words("--uses", names))
  command:option("--pool-size", "The pool_size of the application; else that of the URL, else 20."):argname("<n>")
    :convert(options.integer("--pool-size", 1, 100000))
  command:option("--processes", "How many processes have such a pool."):argname("<n>"):default("1")
    :convert(options.integer("--processes", 1, 100000))
  command:option("--min-replicas", "The min_replicas that the application asks for."):argname("<n>")
    :convert(options.integer("--min-replicas", 0, 100))
  command:option("--user", "Check the permissions of this user of the server, not one's own."):argname("<name>")
  command:flag("--strict", "Warnings count as failures.")
  command:flag("--json", "Print JSON.")
end

-- In the order of the output; each adds to the report what it finds.
local checks = {
  link.round_trip, link.protocol, link.encryption, acl.login,
  server.version, server.loading, sentinel.sentinels, server.replication,
  memory.limit, memory.eviction, memory.buffers,
  durability.persistence,
  clients.pools, clients.idle,
  slow.log, slow.latency,
  link.clock, acl.permissions,
}

-- Of a cluster: what is of the way there, of the cluster as a whole, and of each node.
local of_the_way = { link.round_trip, link.protocol, link.encryption }
local of_each_node = {
  acl.login, server.version, server.loading,
  memory.limit, memory.eviction, memory.buffers,
  durability.persistence,
  clients.pools, clients.idle,
  slow.log, slow.latency,
  link.clock, acl.permissions,
}

local function examine_cluster(report, subject, args, client)
  for _, check in ipairs(of_the_way) do check(report, subject) end
  local list <close> = nodes.dial(args, client)
  cluster.examine(report, subject, list)
  nodes.examine(report, list, of_each_node)
end

local function print_report(report, url)
  terminal.title(url)
  report:print()
  local text = ("%d ok, %s, %s"):format(report:count("ok"), format.plural(report:count("warning"), "warning"),
    format.plural(report:count("failure"), "failure"))
  local skipped = report:count("skipped")
  if skipped > 0 then text = ("%s, %d skipped"):format(text, skipped) end
  terminal.print("%s", text)
end

local function print_json(report, url)
  terminal.print("%s", json.encode {
    url = url, checks = report.findings, ok = report:count("ok"), warnings = report:count("warning"),
    failures = report:count("failure"), skipped = report:count("skipped"),
  })
end

function M.run(args)
  local client <close>, message, event = link.dial(args)
  if not client then failure.raise("%s", terminal.safe(message)) end
  local subject, report = subjects.new(args, client), reports.new()
  if event then link.dialled(report, event) end
  if connection.is_cluster(client) then
    examine_cluster(report, subject, args, client)
  else
    for _, check in ipairs(checks) do check(report, subject, args) end
  end
  local show = args.json and print_json or print_report
  show(report, subject.url)
  local bad = report:count("failure") > 0 or args.strict and report:count("warning") > 0
  return bad and failure.VIOLATIONS or failure.FINE
end

return M
