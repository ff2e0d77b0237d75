-- SPDX-License-Identifier: MIT
-- doctor: who this is on the server, and which patterns that user may use.  ACL DRYRUN tells it without running anything
-- (Redis 7.0 and Valkey); what each pattern needs is generated from the scripts (docs/acl.md).

local redmoon = require "redmoon"
local rules = require "redmoon.cli.doctor.rules_generated"

local M = {}

-- Names of all patterns, for --uses.
function M.names()
  local list = {}
  for i, rule in ipairs(rules) do list[i] = rule.name end
  return list
end

-- Default user without a password: fine on this machine alone.
function M.login(report, subject)
  local user, message = subject.client:acl("WHOAMI")
  if not user then return report:skipped("login", message) end
  subject.login = user
  local about = subject.client:acl("GETUSER", user)
  local is_open = false
  for _, flag in ipairs(about and about.flags or {}) do is_open = is_open or flag == "nopass" end
  local text = ("user '%s'%s"):format(user, is_open and ", any password does" or "")
  if is_open and not subject:is_local() then
    return report:warning("login", text,
      "whoever reaches the port owns the data: set requirepass, or make users with ACL SETUSER")
  end
  report:ok("login", text, { user = user })
end

-- A command with as many arguments as it takes; `key` where keys are.  about: what COMMAND INFO says of it.
local function example(command, about, key)
  if command == "eval" or command == "evalsha" then return { command, "x", "1", key } end
  if command == "publish" then return { command, key, "1" } end -- a channel is named as a key is
  if command == "subscribe" then return { command, key } end
  local words = {}
  for word in command:gmatch("[^|]+") do words[#words + 1] = word end
  local arity, first, last, step = 2, 0, 0, 1
  if type(about) == "table" then arity, first, last, step = math.abs(about[2]), about[4], about[5], about[6] end
  while #words < arity do
    local at = #words
    local is_key = first > 0 and at >= first and (last < 0 or at <= last) and (at - first) % math.max(1, step) == 0
    words[at + 1] = is_key and key or "1"
  end
  return words
end

local function wanted_of(subject)
  local list, seen = {}, {}
  for _, rule in ipairs(rules) do
    if subject.uses[rule.name] then
      for _, command in ipairs(rule.rule) do
        if not seen[command] then
          seen[command] = true
          list[#list + 1] = command
        end
      end
    end
  end
  return list
end

-- command -> "command", "key" or "channel", for what the user may not do; nil, why and code where that cannot be asked.
local function denied_to(subject, user)
  local client, wanted = subject.client, wanted_of(subject)
  local about, message, code = client:command("INFO", table.unpack(wanted))
  if not about then return nil, message, code end
  local replies, why, what = client:pipeline(function(p)
    for i, command in ipairs(wanted) do
      p:call("ACL", "DRYRUN", user, table.unpack(example(command, about[i], subject.prefix .. ":{doctor}:x")))
    end
  end)
  if not replies then return nil, why, what end
  local denied = {}
  for i, command in ipairs(wanted) do
    local reply = replies[i]
    if type(reply) == "string" then
      denied[command] = reply:find("command", 1, true) and "command" or reply:find("channel", 1, true) and "channel"
        or "key"
    elseif redmoon.is_error(reply) and not reply.message:find("wrong number", 1, true) then
      return nil, reply.message, reply.code
    end
  end
  return denied
end

-- What an administrator has to add for a pattern, as words of ACL SETUSER; "" for nothing.
local function missing_from(rule, denied, prefix)
  local list = {}
  for _, command in ipairs(rule.rule) do
    if denied[command] == "key" then list[1] = list[1] or "~" .. prefix .. ":*" end
  end
  for _, command in ipairs(rule.rule) do
    if denied[command] == "channel" then
      list[#list + 1] = "&" .. prefix .. ":*"
      break
    end
  end
  for _, command in ipairs(rule.rule) do
    if denied[command] == "command" then list[#list + 1] = "+" .. command end
  end
  return table.concat(list, " ")
end

local function refuse(report, subject, user, rule, missing)
  report[subject:severity { rule.name }](report, "permissions", ("user '%s' may not use: %s"):format(user, rule.name),
    ("ACL SETUSER %s %s"):format(user, missing), { pattern = rule.name })
end

function M.permissions(report, subject)
  local user = subject.user or subject.login
  if not user then return report:skipped("permissions", "the user is not known") end
  local denied, why, code = denied_to(subject, user)
  if not denied then
    local hint = code == "NOPERM" and "; as an administrator: redmoon doctor --user " .. user or ""
    return report:skipped("permissions", why .. hint)
  end
  local allowed = {}
  for _, rule in ipairs(rules) do
    if subject.uses[rule.name] then
      local missing = missing_from(rule, denied, subject.prefix)
      if missing == "" then allowed[#allowed + 1] = rule.name else refuse(report, subject, user, rule, missing) end
    end
  end
  if #allowed == 0 then return end
  report:ok("permissions", ("user '%s' may use: %s"):format(user, table.concat(allowed, ", ")), { patterns = #allowed })
end

return M
