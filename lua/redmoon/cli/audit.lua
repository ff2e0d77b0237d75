-- SPDX-License-Identifier: MIT
-- redmoon audit: which keys live for ever, how long the others have left, what they weigh.  Reads only; `audit fix` gives
-- keys a lifetime, `audit undo` takes it back.

local connection = require "redmoon.cli.connection"
local failure = require "redmoon.cli.failure"
local fix = require "redmoon.cli.audit.fix"
local interrupt = require "redmoon.cli.interrupt"
local json = require "redmoon.cli.json"
local openmetrics = require "redmoon.cli.audit.openmetrics"
local options = require "redmoon.cli.options"
local progress = require "redmoon.cli.progress"
local states = require "redmoon.cli.audit.state"
local terminal = require "redmoon.cli.terminal"
local text = require "redmoon.cli.audit.text"

local M = {
  name = "audit",
  summary = "Show keys without TTL, lifetimes and memory by prefix; reads only.",
  epilog = [[
Exit status: 0 clean, 1 violations of --require-ttl, --min-ttl or --max-ttl (--strict: or warnings),
2 an error, 130 interrupted: the report is of what was counted until then, and --resume goes on.]],
}

local YEAR = 366 * 86400

function M.define(command)
  command:option("--match", "Only keys of this pattern."):argname("<glob>")
  command:option("--depth", "Segments of a prefix; else 1."):argname("<n>"):convert(options.integer("--depth", 1, 8))
  command:option("--separator", "Between segments; else ':'."):argname("<char>")
  command:option("--sample", "Percent of the keys whose memory is asked for; else 1.")
    :argname("<percent>"):convert(options.number("--sample", 0, 100))
  command:option("--top", "Prefixes in the report; else 100."):argname("<n>"):convert(options.integer("--top", 1, 10000))
  command:option("--max-rate", "Most keys per second; it slows down by itself when the server does.")
    :argname("<keys>"):convert(options.integer("--max-rate", 1, 10000000))
  command:flag("--require-ttl", "A key without TTL is a violation.")
  command:option("--min-ttl", "A TTL below it is a violation."):argname("<time>")
    :convert(options.duration("--min-ttl", 0.001, 100 * YEAR))
  command:option("--max-ttl", "A TTL above it is a violation."):argname("<time>")
    :convert(options.duration("--max-ttl", 0.001, 100 * YEAR))
  command:option("--processes", "Processes with a pool like this URL's, for a warning."):argname("<n>")
    :convert(options.integer("--processes", 1, 1000000))
  command:option("--resume", "Keep the state in this file, and go on from it if it is there."):argname("<file>")
  command:flag("--strict", "Warnings count as violations.")
  command:mutex(command:flag("--json", "Print JSON."),
    command:flag("--prometheus", "Print OpenMetrics text, for Prometheus."))
  command:flag("--quiet", "Show no progress.")
  command:command_target("action"):require_command(false)
  fix.define(command)
end

-- Of a resumed audit they are the state's: those that were not given are left out.
local function audit_options(args, state)
  return {
    match = args.match, depth = args.depth, separator = args.separator, top = args.top,
    sample = args.sample and args.sample / 100, max_rate = args.max_rate, require_ttl = args.require_ttl,
    min_ttl = args.min_ttl, max_ttl = args.max_ttl, processes = args.processes, resume = state:load(),
  }
end

-- The report; nil, message and, if there is one, the state when it fails.
local function count(pressed, client, args, state)
  local shown = progress.new("keys", args.quiet)
  local settings = audit_options(args, state)
  function settings.on_progress(now, save)
    shown:show(now.keys, now.left and now.keys + now.left, now.pause > 0 and "waiting for a slow server")
    state:keep(save)
    return not pressed()
  end
  local report, message, _, detail = failure.call(client.audit, client, settings)
  shown:clear()
  return report, message, detail
end

local function to_json(report, url)
  local lists = { prefixes = json.array(report.prefixes), warnings = json.array(report.warnings) }
  for _, group in ipairs(report.prefixes) do json.array(group.ttl_histogram) end
  json.array(report.total.ttl_histogram)
  local copy = { url = url }
  for name, value in pairs(report) do copy[name] = lists[name] or value end
  copy.state = nil
  return json.encode(copy)
end

local function show(report, args, url)
  if args.json then
    terminal.print("%s", to_json(report, url))
  elseif args.prometheus then
    openmetrics.print(report)
  else
    text.print(report, url)
  end
end

local function status_of(report, is_strict)
  for _, warning in ipairs(report.warnings) do
    if warning.level == "violation" or is_strict and warning.level == "warning" then return failure.VIOLATIONS end
  end
  return failure.FINE
end

-- The parser takes them before and behind `fix` and `undo`, too, where they would mean nothing.
local function refuse_options(args)
  for _, name in ipairs { "depth", "separator", "sample", "top", "require-ttl", "min-ttl", "max-ttl", "processes",
    "resume", "strict", "json", "prometheus" } do
    if args[(name:gsub("-", "_"))] then failure.raise("audit %s takes no option '--%s'", args.action, name) end
  end
end

function M.run(args)
  if args.action then
    refuse_options(args)
    return fix.run(args)
  end
  local client <close> = connection.open(args, { client_name = "redmoon-audit" })
  local state = states.new(args.resume)
  local report, message, detail = interrupt.guard(count, client, args, state)
  if not report then
    if detail and detail.state then state:stop(detail.state) end
    failure.raise("%s", terminal.safe(message))
  end
  show(report, args, connection.url(client))
  if not report.complete then
    state:stop(report.state)
    return failure.INTERRUPTED
  end
  state:finish()
  return status_of(report, args.strict)
end

return M
