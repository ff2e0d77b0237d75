-- SPDX-License-Identifier: MIT
-- redmoon top: who is connected, what is run, what patterns hold.  Live on a terminal, one look elsewhere.

local connection = require "redmoon.cli.connection"
local failure = require "redmoon.cli.failure"
local interrupt = require "redmoon.cli.interrupt"
local json = require "redmoon.cli.json"
local objects = require "redmoon.cli.top.objects"
local options = require "redmoon.cli.options"
local samples = require "redmoon.cli.top.sample"
local screen = require "redmoon.cli.top.screen"
local terminal = require "redmoon.cli.terminal"

local M = {
  name = "top",
  summary = "Show pools, commands, queues, locks and limits as they are now; live on a terminal.",
  epilog = [[
A pool is what has one client_name on one host, as the server sees it. Ctrl-C ends it.
Locks and limits are found by SCAN, a few thousand keys at each look; --pages 0 leaves them out.]],
}

local MOST = 10 -- rows of a table where there is no terminal to fit

function M.define(command)
  command:option("--interval", "Seconds between two looks."):argname("<n>"):default("2")
    :convert(options.number("--interval", 0.05, 3600))
  command:option("--count", "End after so many looks; else with Ctrl-C."):argname("<n>")
    :convert(options.integer("--count", 1, 1000000))
  command:option("--prefix", "The key_prefix of the application; else that of the URL, else redmoon.")
    :argname("<prefix>")
  command:option("--pages", "Thousands of keys that are looked at each time; else 5, of one look 100."):argname("<n>")
    :convert(options.integer("--pages", 0, 10000))
  command:flag("--json", "Print JSON, of one look.")
end

-- Between two looks; false when it is to end.
local function wait(pressed, seconds)
  local ends = terminal.now() + seconds
  repeat
    if pressed() then return false end
    terminal.sleep(math.max(0, math.min(0.2, ends - terminal.now())))
  until terminal.now() >= ends
  return not pressed()
end

local function look_for_objects(walk, pages)
  if walk then
    local _, why = walk:go(pages)
    walk.why = why
  end
end

-- Rows that fit: four tables, their titles, blank lines and the head share the screen.
local function most_rows(nodes)
  return math.max(2, nodes and (terminal.rows() - 16) // 5 or (terminal.rows() - 12) // 4)
end

local function draw(lines)
  local width, rows = terminal.width() or 80, terminal.rows()
  io.stdout:write("\27[H")
  for i = 1, math.min(#lines, rows - 1) do
    local line = lines[i]
    if terminal.columns(line) > width then line = terminal.cut((line:gsub("\27%[[%d;]*m", "")), width) end
    io.stdout:write(line, "\27[K\n")
  end
  io.stdout:write("\27[J")
  io.stdout:flush()
end

local function live(pressed, client, args, walk, nodes)
  local url = connection.url(client)
  local first = samples.take(client, nodes)
  local looks = 0
  io.stdout:write("\27[?1049h\27[?25l\27[2J") -- another screen, without a cursor
  local restored <close> = setmetatable({}, { __close = function()
    io.stdout:write("\27[?25h\27[?1049l")
    io.stdout:flush()
  end })
  while wait(pressed, looks == 0 and math.min(args.interval, 0.3) or args.interval) do
    local second = samples.take(client, nodes)
    if not second.info and not second.pools then failure.raise("%s", terminal.safe(second.why.info or "no answer")) end
    look_for_objects(walk, args.pages)
    draw(screen.lines(first, second, walk, url, most_rows(nodes)))
    first = second
    looks = looks + 1
    if looks == args.count then break end
  end
  return restored
end

local function nodes_to_json(nodes)
  local list = json.array {}
  for i, node in ipairs(nodes) do
    local info = node.info or {}
    list[i] = { address = node.address, role = node.role, why = node.why, round_trip = node.round_trip }
    for _, field in ipairs { "used_memory", "maxmemory", "connected_clients", "instantaneous_ops_per_sec" } do
      list[i][field] = math.tointeger(tonumber(info[field]))
    end
  end
  return list
end

local function to_json(first, second, walk, url)
  local result = { url = url, pools = second.pools and json.array(second.pools),
    commands = json.array(samples.between(first, second)) }
  if second.nodes then result.nodes = nodes_to_json(second.nodes) end
  if walk then
    local list, is_whole = walk:list()
    result.objects, result.objects_complete = json.array(list), is_whole
    result.queues = json.array(walk:queue_list(1000))
  end
  local info = second.info or {}
  for _, field in ipairs { "used_memory", "maxmemory", "connected_clients", "blocked_clients",
    "instantaneous_ops_per_sec", "keyspace_hits", "keyspace_misses", "uptime_in_seconds" } do
    result[field] = math.tointeger(tonumber(info[field]))
  end
  return json.encode(result)
end

local function once(pressed, client, args, walk, nodes)
  local url = connection.url(client)
  local first = samples.take(client, nodes)
  if not wait(pressed, math.min(args.interval, 1)) then return failure.INTERRUPTED end
  local second = samples.take(client, nodes)
  look_for_objects(walk, args.pages)
  if args.json then
    terminal.print("%s", to_json(first, second, walk, url))
  else
    for _, line in ipairs(screen.lines(first, second, walk, url, MOST)) do terminal.print("%s", line) end
  end
  return failure.FINE
end

local function primaries_of(nodes)
  local list = {}
  for _, node in ipairs(nodes) do
    if node.client and node.role == "primary" then list[#list + 1] = node.client end
  end
  return list
end

function M.run(args)
  local client <close> = connection.open(args, { client_name = "redmoon-top" })
  local prefix = args.prefix or connection.url_option(args, "key_prefix") or "redmoon"
  local is_live = not args.json and terminal.is_terminal(terminal.STDOUT) and os.getenv("TERM") ~= "dumb"
  args.pages = args.pages or is_live and 5 or 100
  local nodes <close> = connection.is_cluster(client) and
    connection.nodes(args, client, { client_name = "redmoon-top" }) or nil
  local walk = args.pages > 0 and objects.new(client, prefix, nodes and primaries_of(nodes)) or nil
  if not is_live then
    return interrupt.guard(once, client, args, walk, nodes)
  end
  interrupt.guard(live, client, args, walk, nodes)
  return failure.FINE
end

return M
