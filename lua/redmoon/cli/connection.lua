-- SPDX-License-Identifier: MIT
-- The server that a subcommand works on: --url, else $REDIS_URL, else the local one.

local failure = require "redmoon.cli.failure"
local redmoon = require "redmoon"
local terminal = require "redmoon.cli.terminal"

local M = {}

-- A client that has not dialled yet; ends the subcommand where URL or options are wrong.
function M.client(args, options)
  options = options or {}
  options.client_name = options.client_name or "redmoon-cli"
  local client, message = failure.call(redmoon.connect, args.url, options)
  if not client then failure.raise("%s", message) end
  return client
end

-- A client whose server answers.
function M.open(args, options)
  local client = M.client(args, options)
  -- Without retries: what went wrong is told in its own words.
  local answer, message = client:with { max_retries = 0 }:ping()
  if answer == nil then
    client:close()
    failure.raise("%s", terminal.safe(message))
  end
  return client
end

-- The URL of a client, which holds no secrets.
function M.url(client) return tostring(client):match("%((.*)%)$") end

-- An option in the query of the URL that was given, decoded; nil for none.
function M.url_option(args, name)
  local given = args.url or os.getenv("REDIS_URL") or ""
  local text = given:match("[?&]" .. name .. "=([^&]*)")
  return text and text:gsub("%%(%x%x)", function(digits) return string.char(tonumber(digits, 16)) end) or nil
end

-- INFO as a table: field -> text.
function M.info(client, ...)
  local text, message = client:info(...)
  if type(text) ~= "string" then return nil, message end
  local fields = {}
  for name, value in text:gmatch("([%w_%-]+):([^\r\n]*)") do fields[name] = value end
  return fields
end

return M
