-- SPDX-License-Identifier: MIT
-- redmoon queue NAME: looks into a lease queue, looks after its dead jobs, and stops it for a while.

local confirm = require "redmoon.cli.confirm"
local connection = require "redmoon.cli.connection"
local failure = require "redmoon.cli.failure"
local format = require "redmoon.cli.format"
local grid = require "redmoon.cli.grid"
local json = require "redmoon.cli.json"
local options = require "redmoon.cli.options"
local terminal = require "redmoon.cli.terminal"

local M = {
  name = "queue",
  summary = "Show the jobs of a queue; redrive dead ones, purge, pause.",
  epilog = [[
Payloads, progress and results are shown with --payload only: they may be secret.
Exit status: 0 fine, 1 check found a job that is not in exactly one place, 2 an error.]],
}

local function define_verb(parser, name, summary)
  local verb = parser:command(name, summary)
  verb:usage_max_width(100):help_max_width(100)
  return verb
end

function M.define(command)
  command:argument("name", "Name of the queue; its keys are under the key_prefix of the URL."):argname("<name>")
  command:command_target("verb"):require_command(true)
  define_verb(command, "stats", "How many jobs are where."):flag("--json", "Print JSON.")
  local peek = define_verb(command, "peek", "What is known of one job.")
  peek:argument("id", "Id of the job."):argname("<id>")
  peek:flag("--payload", "Show payload, progress and result, too.")
  peek:flag("--json", "Print JSON.")
  local dead = define_verb(command, "dead", "Jobs that failed too often; those that died first in front.")
  dead:option("--count", "At most so many."):argname("<n>"):default("20"):convert(options.integer("--count", 1, 500))
  dead:option("--first", "Leave out so many."):argname("<n>"):default("0")
    :convert(options.integer("--first", 0, 2 ^ 53 // 1 | 0))
  dead:flag("--payload", "Show payloads, too.")
  dead:flag("--json", "Print JSON.")
  local redrive = define_verb(command, "redrive", "Make dead jobs ready again, with no failures.")
  redrive:option("--count", "At most so many; else all."):argname("<n>")
    :convert(options.integer("--count", 1, 2 ^ 53 // 1 | 0))
  redrive:flag("--yes", "Do not ask.")
  local purge = define_verb(command, "purge", "Remove all jobs of a state.")
  purge:argument("state", "ready, delayed, dead or done."):choices { "ready", "delayed", "dead", "done" }
  purge:flag("--yes", "Do not ask.")
  define_verb(command, "pause", "Hand out no jobs until resume; what runs may end."):flag("--yes", "Do not ask.")
  define_verb(command, "resume", "Hand out jobs again."):flag("--yes", "Do not ask.")
  define_verb(command, "check", "Prove that every job is in exactly one place; reads only.")
end

local function must(value, message, ...)
  if value == nil and message then failure.raise("%s", terminal.safe(message)) end
  return value, message, ...
end

local verbs = {}

local states = { "ready", "delayed", "leased", "dead", "done" }

function verbs.stats(queue, args)
  local stats = must(queue:stats())
  if args.json then
    terminal.print("%s", json.encode(stats))
    return failure.FINE
  end
  local rows = {}
  for i, state in ipairs(states) do rows[i] = { state, format.count(stats[state]) } end
  grid.print({ { title = "state" }, { title = "jobs", right = true } }, rows)
  terminal.print("%s pushed, %s finished, %s removed, since it began", format.count(stats.pushed),
    format.count(stats.finished), format.count(stats.removed))
  if stats.grouped > 0 then
    terminal.print("%s of those that are ready of groups; %s with a turn to come, the others at their limits",
      format.count(stats.grouped), format.plural(stats.groups, "group"))
  end
  if stats.paused then terminal.print("%s", terminal.paint("warning", "It is paused: no job is handed out.")) end
  return failure.FINE
end

-- Without what may be secret, unless it is asked for.
local function shown(job, with_payload)
  local copy = {}
  for name, value in pairs(job) do copy[name] = value end
  if not with_payload then
    copy.payload_bytes = type(job.payload) == "string" and #job.payload or nil
    copy.payload, copy.progress, copy.result = nil, nil, nil
  end
  return copy
end

local meanings = { ready = "ready", delayed = "due in %s", leased = "lease ends in %s", dead = "dead for %s",
  done = "its result is kept for %s" }

local function when_text(job)
  if not job.after then return job.state end
  return (meanings[job.state] or job.state):format(format.duration(math.abs(job.after)))
end

-- What is known of a job, as {label, text}.
local function facts_of(job, with_payload)
  local rows = { { "id", terminal.safe(job.id) }, { "state", when_text(job) }, { "priority", tostring(job.priority) },
    { "failures", ("%d of %s"):format(job.failures, job.max_attempts or "?") },
    { "crashes", ("%d of %s"):format(job.crashes, job.max_crashes or "?") }, { "epoch", tostring(job.epoch) } }
  if job.unique then rows[#rows + 1] = { "unique", terminal.safe(job.unique) } end
  if job.group then rows[#rows + 1] = { "group", terminal.safe(job.group) } end
  if job.error then rows[#rows + 1] = { "last error", terminal.safe(tostring(job.error)) } end
  for _, name in ipairs { "payload", "progress", "result" } do
    local value = job[name]
    if type(value) == "string" then
      rows[#rows + 1] = { name, with_payload and terminal.safe(value) or format.plural(#value, "byte") }
    end
  end
  return rows
end

function verbs.peek(queue, args)
  local job, message = queue:peek(args.id)
  if not job then failure.raise("%s", message and terminal.safe(message) or "there is no such job") end
  if args.json then
    terminal.print("%s", json.encode(shown(job, args.payload)))
  else
    for _, row in ipairs(facts_of(job, args.payload)) do terminal.print("%-10s  %s", row[1], row[2]) end
  end
  return failure.FINE
end

local dead_columns = { { title = "id" }, { title = "died" }, { title = "failures", right = true },
  { title = "crashes", right = true }, { title = "payload" }, { title = "last error" } }

local function dead_row(job, with_payload)
  local payload = type(job.payload) == "string" and job.payload or ""
  return { terminal.safe(job.id), job.died_at and os.date("!%F %T UTC", math.floor(job.died_at)) or "-",
    tostring(job.failures), tostring(job.crashes),
    with_payload and terminal.safe(payload) or format.plural(#payload, "byte"),
    terminal.safe(tostring(job.error or "-")) }
end

function verbs.dead(queue, args)
  local jobs, total = must(queue:dead(args.count, args.first))
  if args.json then
    local list = json.array {}
    for i, job in ipairs(jobs) do list[i] = shown(job, args.payload) end
    terminal.print("%s", json.encode { total = total, jobs = list })
    return failure.FINE
  end
  local rows = {}
  for i, job in ipairs(jobs) do rows[i] = dead_row(job, args.payload) end
  if #rows > 0 then grid.print(dead_columns, rows) end
  terminal.print("%s of %s", format.count(#jobs), format.plural(total, "dead job"))
  return failure.FINE
end

local function plan(args, url, text, ...)
  return { ("On %s, queue '%s': "):format(url, terminal.safe(args.name)) .. text:format(...) }
end

function verbs.redrive(queue, args, url)
  local dead = must(queue:stats()).dead
  local count = math.min(dead, args.count or dead)
  if count == 0 then
    terminal.print("There are no dead jobs.")
    return failure.FINE
  end
  confirm.ask(args.yes, plan(args, url, "%s will be ready again, and run.", format.plural(count, "dead job")))
  terminal.print("%s made ready", format.plural(must(queue:redrive(count)), "job"))
  return failure.FINE
end

function verbs.purge(queue, args, url)
  local count = must(queue:stats())[args.state]
  if count == 0 then
    terminal.print("There are no %s jobs.", args.state)
    return failure.FINE
  end
  confirm.ask(args.yes, plan(args, url, "%s will be removed for good.", format.plural(count, args.state .. " job")))
  terminal.print("%s removed", format.plural(must(queue:purge(args.state)), "job"))
  return failure.FINE
end

-- Pauses, or resumes.
local function switch(queue, args, url, pause, text)
  if must(queue:stats()).paused == pause then
    terminal.print(pause and "It is paused already." or "It is not paused.")
    return failure.FINE
  end
  confirm.ask(args.yes, plan(args, url, text))
  if pause then must(queue:pause()) else must(queue:resume()) end
  terminal.print(pause and "paused" or "resumed")
  return failure.FINE
end

function verbs.pause(queue, args, url)
  return switch(queue, args, url, true, "no job will be handed out until it is resumed; what runs may end.")
end

function verbs.resume(queue, args, url) return switch(queue, args, url, false, "jobs will be handed out again.") end

function verbs.check(queue)
  local result = must(queue:check())
  for _, wrong in ipairs(result.wrong) do
    terminal.print("%s %s: %s", terminal.paint("failure", "violation"), terminal.safe(wrong.id),
      terminal.safe(wrong.what))
  end
  terminal.print("%s looked at, %s not in exactly one place", format.plural(result.jobs, "job"),
    format.count(#result.wrong))
  return #result.wrong > 0 and failure.VIOLATIONS or failure.FINE
end

function M.run(args)
  local client <close> = connection.open(args, { client_name = "redmoon-queue" })
  local queue <close> = must(failure.call(client.queue, client, args.name, { codec = "string" }))
  return verbs[args.verb](queue, args, connection.url(client))
end

return M
