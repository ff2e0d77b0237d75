-- SPDX-License-Identifier: MIT
-- doctor: what a crash of the server would cost.

local format = require "redmoon.cli.format"

local M = {}

local durable = { "queue", "blocklist", "sessions" }

-- What a restart costs without an append-only file; and whether that is everything.
local function without_file(subject)
  local save, why = subject:setting("save")
  local changes = format.plural(subject:number("rdb_changes_since_last_save") or 0, "change")
  if save == "" then return "no append-only file, no snapshots: a restart loses everything", true end
  if save then return ("snapshots only: a crash now would lose %s"):format(changes), false end
  return ("no append-only file; whether there are snapshots is not told (%s)"):format(why), false
end

-- What went wrong with the files, if anything did.
local function broken(info)
  if info.aof_enabled == "1" and info.aof_last_write_status ~= "ok" then
    return "the last write of the append-only file failed", "look at the disk: room, errors"
  end
  if info.rdb_last_bgsave_status and info.rdb_last_bgsave_status ~= "ok" then
    return "the last snapshot failed; the server may refuse writes (MISCONF)", "look at the disk and at the server's log"
  end
end

local function appending(report, subject)
  local fsync = subject:setting("appendfsync") or "unknown"
  local values = { aof = true, appendfsync = fsync }
  local lost = { always = "nothing that was acknowledged", everysec = "the last one or two seconds",
    no = "what the system has not written yet, up to half a minute" }
  local text = ("append-only file, fsync %s: a crash loses %s"):format(fsync, lost[fsync] or "what is not known here")
  if fsync == "no" then
    return report:warning("persistence", text, "set appendfsync everysec", values)
  end
  report:ok("persistence", text, values)
end

function M.persistence(report, subject)
  local info = subject.info
  if not info.aof_enabled then return report:skipped("persistence", "INFO does not tell it") end
  local problem, advice = broken(info)
  if problem then return report:failure("persistence", problem, advice) end
  if info.aof_enabled == "1" then return appending(report, subject) end
  local affected, severity = subject:affected(durable), subject:severity(durable)
  local values = { aof = false, changes = subject:number("rdb_changes_since_last_save") }
  local text, is_all = without_file(subject)
  if not is_all then severity = severity and "warning" end
  if not severity then return report:ok("persistence", text .. "; fit for a cache", values) end
  report[severity](report, "persistence", text, ("set appendonly yes: it matters to %s"):format(affected), values)
end

return M
