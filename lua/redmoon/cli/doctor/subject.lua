-- SPDX-License-Identifier: MIT
-- The server under examination, as all checks see it: its client, INFO, settings, and what the application needs.

local acl = require "redmoon.cli.doctor.acl"
local connection = require "redmoon.cli.connection"

local subject = {}
subject.__index = subject

local M = {}

-- args: of the subcommand; client: its server has answered.
function M.new(args, client)
  local self = setmetatable({
    client = client, url = connection.url(client), tls_verify = connection.url_option(args, "tls_verify"),
    processes = args.processes, min_replicas = args.min_replicas, user = args.user, settings = {},
  }, subject)
  self.is_cluster = (args.url or os.getenv("REDIS_URL") or ""):find("^%w+%+cluster:") ~= nil
  self.pool_size = args.pool_size or math.tointeger(tonumber(connection.url_option(args, "pool_size"))) or 20
  self.prefix = connection.url_option(args, "key_prefix") or "redmoon"
  self.info, self.why_no_info = connection.info(client)
  self.info = self.info or {}
  self.is_told = args.uses ~= nil
  self.uses = {}
  for _, word in ipairs(args.uses or acl.names()) do self.uses[word] = true end
  return self
end

-- A number of INFO; nil where it is not told.
function subject:number(field) return tonumber(self.info[field]) end

-- A setting as text; nil and why where it may not be asked for.
function subject:setting(name)
  local known = self.settings[name]
  if known == nil then
    local answer, message = self.client:config("GET", name)
    known = { answer and answer[name], answer and "the server has no setting " .. name or message }
    self.settings[name] = known
  end
  return known[1], known[2]
end

-- Those of `patterns` that the application uses, as text; nil for none.
function subject:affected(patterns)
  local list = {}
  for _, pattern in ipairs(patterns) do
    if self.uses[pattern] then list[#list + 1] = pattern end
  end
  return #list > 0 and table.concat(list, ", ") or nil
end

-- "failure" when the application is known to use one of them, "warning" when it may, nil when it does not.
function subject:severity(patterns)
  if not self:affected(patterns) then return nil end
  return self.is_told and "failure" or "warning"
end

function subject:is_local()
  return self.url:find("^unix:") ~= nil or self.url:find("//127%.") ~= nil or self.url:find("//localhost[:/]") ~= nil
    or self.url:find("//[::1]", 1, true) ~= nil
end

return M
