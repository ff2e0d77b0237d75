-- SPDX-License-Identifier: MIT
-- redmoon audit fix, which gives keys without TTL one, and audit undo, which takes it back.

local confirm = require "redmoon.cli.confirm"
local connection = require "redmoon.cli.connection"
local failure = require "redmoon.cli.failure"
local format = require "redmoon.cli.format"
local interrupt = require "redmoon.cli.interrupt"
local log = require "redmoon.cli.audit.undo_log"
local options = require "redmoon.cli.options"
local progress = require "redmoon.cli.progress"
local terminal = require "redmoon.cli.terminal"

local M = {}

local function define_fix(parser)
  local command = parser:command("fix", "Give keys without TTL one; shows what it would do, unless --apply is given.")
  command:usage_max_width(100):help_max_width(100)
  command:option("--match", "Keys of this pattern; needed."):argname("<glob>"):count(1)
  command:option("--ttl", "The lifetime they get; needed."):argname("<time>"):count(1)
    :convert(options.duration("--ttl", 1, 366 * 86400))
  command:option("--jitter", "Each gets up to so many percent more, so that they do not end together; else 10.")
    :argname("<percent>"):convert(options.number("--jitter", 0, 100))
  command:option("--max-rate", "Most keys per second."):argname("<keys>")
    :convert(options.integer("--max-rate", 1, 10000000))
  command:flag("--apply", "Do it.")
  command:option("--undo-log", "File that each changed key is written to; needed with --apply."):argname("<file>")
  command:flag("--yes", "Do not ask.")
  command:flag("--quiet", "Show no progress.")
end

local function define_undo(parser)
  local command = parser:command("undo", "Take back the TTLs that a fix gave, where they are still those.")
  command:usage_max_width(100):help_max_width(100)
  command:argument("log", "What --undo-log wrote."):argname("<file>")
  command:flag("--yes", "Do not ask.")
  command:flag("--quiet", "Show no progress.")
end

function M.define(parser)
  define_fix(parser)
  define_undo(parser)
end

local EXAMPLES = 10

-- Changes, or only looks; counts of the client, and the examples of a dry run.
local function go_through(pressed, client, args, written)
  local shown, examples = progress.new("keys", args.quiet), {}
  local result, message, _, detail = failure.call(client.audit_fix, client, {
    match = args.match, ttl = args.ttl, jitter = args.jitter and args.jitter / 100, max_rate = args.max_rate,
    dry_run = not args.apply,
    on_fixed = function(fixed)
      if written then written:add(fixed) elseif #examples < EXAMPLES then examples[#examples + 1] = fixed end
    end,
    on_progress = function(counts)
      shown:show(counts.seen, counts.share > 0 and math.floor(counts.seen / counts.share))
      return not pressed()
    end,
  })
  shown:clear()
  return result or detail and detail.result, examples, not result and message
end

local function print_counts(counts, is_applied)
  terminal.print("%s looked at: %s %s %s", format.plural(counts.seen, "key"), format.count(counts.fixed),
    is_applied and "got" or "would get", "a TTL")
  if counts.own > 0 then
    terminal.print("%s of this client's patterns, left alone: they mean to stay", format.plural(counts.own, "key"))
  end
  if counts.raced > 0 then terminal.print("%s changed by others meanwhile", format.plural(counts.raced, "key")) end
  if counts.errors > 0 then terminal.print("%s refused by the server", format.plural(counts.errors, "key")) end
end

local function plan_of(args, url)
  return {
    ("On %s: every key of '%s' that has no TTL gets one of %s, and up to %g %% more."):format(url,
      terminal.safe(args.match), format.duration(args.ttl), args.jitter or 10),
    ("It is gone when that is over. Each key is written to %s, for 'redmoon audit undo'."):format(args.undo_log),
  }
end

local function run_fix(args)
  if args.apply and not args.undo_log then failure.raise("--apply needs --undo-log <file>, so that it can be undone") end
  local client <close> = connection.open(args, { client_name = "redmoon-audit" })
  if args.apply then confirm.ask(args.yes, plan_of(args, connection.url(client))) end
  local written <close> = args.apply and log.create(args.undo_log) or nil
  local counts, examples, why = interrupt.guard(go_through, client, args, written)
  if counts then print_counts(counts, args.apply) end
  if why then failure.raise("%s", terminal.safe(why)) end
  for _, each in ipairs(examples) do
    terminal.print("  %s  %s", terminal.safe(each.key), terminal.paint("accent", format.duration(each.ttl)))
  end
  if not args.apply then terminal.print("Nothing was changed: --apply does it.") end
  if not counts.complete then
    terminal.note("Interrupted. To go on, run it again: keys that have a TTL are left alone.")
    return failure.INTERRUPTED
  end
  return counts.errors > 0 and failure.ERROR or failure.FINE
end

local function take_back(pressed, client, entries, is_quiet)
  local shown = progress.new("keys", is_quiet)
  local undone, left = 0, 0
  for i, entry in ipairs(entries) do
    if pressed() then break end
    local done = failure.check("undo", client:audit_undo(entry.key, entry.expires))
    if done then undone = undone + 1 else left = left + 1 end
    shown:show(i, #entries)
  end
  shown:clear()
  return undone, left
end

local function run_undo(args)
  local entries, unknown = log.read(args.log)
  local client <close> = connection.open(args, { client_name = "redmoon-audit" })
  confirm.ask(args.yes, { ("On %s: %s of %s live for ever again, if they still have the TTL that the fix gave."):format(
    connection.url(client), format.plural(#entries, "key"), args.log) })
  local undone, left = interrupt.guard(take_back, client, entries, args.quiet)
  terminal.print("%s undone, %s left as they are: gone, or with another TTL", format.count(undone), format.count(left))
  if unknown > 0 then
    terminal.print("%s could not be undone: it is not known when the TTL ends", format.plural(unknown, "key"))
  end
  if undone + left < #entries then
    terminal.note("Interrupted. Run it again to go on: what is undone is left alone.")
    return failure.INTERRUPTED
  end
  return failure.FINE
end

function M.run(args) return args.action == "fix" and run_fix(args) or run_undo(args) end

return M
