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

function M.is_cluster(client) return M.url(client):find("+cluster:", 1, true) ~= nil end

-- The URL for one node of the cluster: as the given one, but for the host, and without what only a cluster knows.
local function node_url(args, address)
  local scheme, rest = (args.url or os.getenv("REDIS_URL")):match("^(%w+)%+cluster://(.*)$")
  local authority, tail = rest:match("^([^/?]*)(.*)$")
  local login = authority:match("^(.*@)") or ""
  local path, query = tail:match("^([^?]*)%??(.*)$")
  local kept = {}
  for pair in query:gmatch("[^&]+") do
    if not pair:find("^read_from=") then kept[#kept + 1] = pair end
  end
  if address:find(":.*:") and address:sub(1, 1) ~= "[" then address = "[" .. address:gsub(":(%d+)$", "]:%1") end
  return scheme .. "://" .. login .. address .. path .. (#kept > 0 and "?" .. table.concat(kept, "&") or "")
end

-- The nodes that the client would use, and those that the cluster knows besides: replicas that have just come, nodes that
-- fail.
local function known_nodes(client)
  local list, seen = {}, {}
  local function add(address, role)
    if not seen[address] then list[#list + 1] = { address = address, role = role } end
    seen[address] = true
  end
  for _, node in ipairs(client:nodes()) do
    if node.role ~= "left" then add(node.address, node.role) end
  end
  local text = client:call("CLUSTER", "NODES")
  for line in (type(text) == "string" and text or ""):gmatch("[^\n]+") do
    local address, name, flags = line:match("^%x+ ([^@ ]+)@%d+,?([^, ]*)%S* (%S+)")
    local port = address and address:match(":(%d+)$")
    local is_vague = flags:find("noaddr", 1, true) or flags:find("handshake", 1, true)
    local has_place = port and port ~= "0" and address:find("^[^:]") and not is_vague
    if has_place and not (name ~= "" and seen[name .. ":" .. port]) then
      add(address, flags:find("master", 1, true) and "primary" or "replica")
    end
  end
  return list
end

-- A client of each node of the cluster: {address=, role=, client=, seconds=} of those that answer, and
-- {address=, role=, why=} of those that do not.  Once the client has been used.  To be closed.
function M.nodes(args, client, options)
  local list = known_nodes(client)
  table.sort(list, function(a, b) return a.address < b.address end)
  for _, node in ipairs(list) do
    local single <const> = M.client({ url = node_url(args, node.address) }, options)
    local began = terminal.now()
    local answer, message = single:with { max_retries = 0 }:ping()
    if answer == nil then
      node.why = message
      single:close()
    else
      node.client, node.seconds = single, terminal.now() - began
    end
  end
  return setmetatable(list, { __close = function()
    for _, node in ipairs(list) do
      if node.client then node.client:close() end
    end
  end })
end

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
