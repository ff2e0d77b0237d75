-- SPDX-License-Identifier: MIT
-- What the specs share: private servers, clients of every kind, and asserts for failures.

local certs = require "tests.lua.certs"
local redmoon = require "redmoon"

local M = {}

-- Under an event loop (tests/support/run_in_loop.lua) every client of the specs uses it.
local loop = os.getenv "REDMOON_TEST_LOOP"
local multiplex = os.getenv "REDMOON_TEST_MULTIPLEX" ~= nil or nil
local function with_loop(options)
  local copy = { loop = loop, multiplex = multiplex }
  for name, value in pairs(options or {}) do copy[name] = value end
  return copy
end
if loop then
  local connect = redmoon.connect
  function redmoon.connect(url, options) -- luacheck: ignore
    if type(url) == "table" then return connect(with_loop(url)) end
    if options ~= nil and type(options) ~= "table" then return connect(url, options) end
    return connect(url, with_loop(options))
  end
end

local debugging = { "--enable-debug-command", "yes" }
local servers = {}
local tries = 0

-- With $REDMOON_TEST_CLUSTER the specs meet a cluster in the place of each of the servers that they share.
local clustered = os.getenv "REDMOON_TEST_CLUSTER" ~= nil
M.is_cluster = clustered

-- What the specs use of a server, of the cluster of this run.
local function start_cluster()
  local cluster = require("tests.lua.cluster").start { replicas = 0 }
  return { cluster = cluster, url = cluster.url, pid = cluster.nodes[1].server.pid,
    connect = function(_, options) return redmoon.connect(cluster.url, options) end }
end

-- Of the kind that is tested: $REDMOON_TEST_SERVER is its program.
function M.embedded(config)
  return redmoon.embedded { server = os.getenv("REDMOON_TEST_SERVER"), config = config }
end

-- The server of this run, on a unix socket.
function M.server()
  if not servers.unix then servers.unix = clustered and start_cluster() or assert(M.embedded(debugging)) end
  return servers.unix
end

-- A server with a port of its own, given to `arguments`; ports are tried, because nobody can reserve one.
local function server_with_port(arguments)
  local why
  for _ = 1, 50 do
    tries = tries + 1
    local port = 20000 + (M.server().pid * 7 + tries * 131) % 40000
    local config = arguments(port)
    local server, message = M.embedded(table.move(debugging, 1, #debugging, #config + 1, config))
    if server then return server, port end
    why = message
  end
  error(why)
end

-- Its TCP sibling.
function M.tcp_url()
  if not servers.tcp then
    servers.tcp, servers.port = server_with_port(function(port)
      return { "--port", port, "--bind", "127.0.0.1" }
    end)
  end
  return "redis://127.0.0.1:" .. servers.port .. "/0"
end

-- One of a test's own: the server and its URL.
function M.tcp_server(...)
  local more = { ... }
  local server, port = server_with_port(function(port)
    return table.move(more, 1, #more, 5, { "--port", port, "--bind", "127.0.0.1" })
  end)
  return server, "redis://127.0.0.1:" .. port .. "/0"
end

-- A node of a cluster of one, without slots yet; its bus has a port of its own.
function M.cluster_node()
  return (server_with_port(function(port)
    return { "--cluster-enabled", "yes", "--bind", "127.0.0.1", "--cluster-port", port }
  end))
end

-- The certificates of this run, in the folder of its server, and so gone with it.
function M.certs()
  if not servers.certs then
    local dir = M.server().url:match("^unix://(/.*)/") .. "/certs"
    assert(os.execute("mkdir '" .. dir .. "'"))
    servers.certs = certs.make(dir)
  end
  return servers.certs
end

-- A server that speaks TLS alone, with that certificate: the server and its URL, without options.
function M.tls_server(pair)
  local server, port = server_with_port(function(port)
    return { "--tls-port", port, "--bind", "127.0.0.1", "--tls-cert-file", pair.cert, "--tls-key-file", pair.key,
      "--tls-auth-clients", "no" }
  end)
  return server, "rediss://127.0.0.1:" .. port .. "/0"
end

function M.tls_url()
  if not servers.tls then servers.tls, servers.tls_url = M.tls_server(M.certs().good) end
  return servers.tls_url .. "?tls_ca_file=" .. M.certs().ca_file
end

-- Found through a sentinel: a server of its own, for the sentinel talks to it, too.  A sentinel takes its configuration
-- file as the first argument, which is what the program here is for.
function M.sentinel_url()
  if servers.sentinel then return servers.sentinel_url end
  local dir = M.server().url:match("^unix://(/.*)/") .. "/sentinel"
  local watched, port = server_with_port(function(own) return { "--port", own, "--bind", "127.0.0.1" } end)
  assert(os.execute("mkdir '" .. dir .. "'"))
  local conf, program = assert(io.open(dir .. "/conf", "w")), assert(io.open(dir .. "/sentinel", "w"))
  conf:write(("sentinel monitor main 127.0.0.1 %d 1\nsentinel down-after-milliseconds main 60000\n"):format(port))
  conf:close()
  program:write(("#!/bin/sh\nexec '%s' '%s/conf' --sentinel \"$@\"\n"):format(
    os.getenv "REDMOON_TEST_SERVER" or "redis-server", dir))
  program:close()
  assert(os.execute("chmod 700 '" .. dir .. "/sentinel'"))
  local sentinel, sentinel_port
  for _ = 1, 50 do
    tries = tries + 1
    sentinel_port = 20000 + (M.server().pid * 7 + tries * 131) % 40000
    local config = { "--port", sentinel_port, "--bind", "127.0.0.1" }
    sentinel = redmoon.embedded { server = dir .. "/sentinel", config = config }
    if sentinel then break end
  end
  servers.sentinel, servers.watched = assert(sentinel), watched
  servers.sentinel_url = ("redis+sentinel://127.0.0.1:%d/main"):format(sentinel_port)
  return servers.sentinel_url
end

-- Every way to reach a server that must not make a difference.
M.ways = {
  { name = "unix, RESP3", url = function() return M.server().url end, protocol = 3 },
  { name = "unix, RESP2", url = function() return M.server().url end, protocol = 2 },
  { name = "TCP, RESP3", url = M.tcp_url, protocol = 3 },
  { name = "TCP, RESP2", url = M.tcp_url, protocol = 2 },
  { name = "TLS, RESP3", url = M.tls_url, protocol = 3 },
  { name = "TLS, RESP2", url = M.tls_url, protocol = 2 },
  { name = "sentinel, RESP3", url = M.sentinel_url, protocol = 3 },
  { name = "sentinel, RESP2", url = M.sentinel_url, protocol = 2 },
}

if clustered then
  M.ways = {
    { name = "cluster, RESP3", url = function() return M.server().url end, protocol = 3 },
    { name = "cluster, RESP2", url = function() return M.server().url end, protocol = 2 },
  }
end

-- Describes the same behaviour over each way; `describe` is the spec's own, `body` gets the way.
function M.over_each_way(describe, what, body)
  for _, way in ipairs(M.ways) do
    describe(what .. " (" .. way.name .. ")", function() body(way) end)
  end
end

function M.connect(way, options)
  options = options or {}
  options.protocol = way.protocol
  return assert(redmoon.connect(way.url(), options))
end

-- The same, with an empty database.
function M.fresh(way, options)
  local client = M.connect(way, options)
  assert(client:flushall())
  return client
end

-- A client of the unix server with an empty database.
function M.client(options)
  local client = assert(M.server():connect(with_loop(options)))
  assert(client:flushall())
  return client
end

-- Asserts on nil, message, code, detail; returns message and detail.
function M.assert_failure(code, ...)
  local value, message, got, detail = ...
  assert(select("#", ...) == 4, "four results expected, got " .. select("#", ...))
  assert(value == nil, "nil expected, got " .. tostring(value))
  assert(math.type(message) == nil and type(message) == "string", "a message expected")
  assert(got == code, ("code %s expected, got %s: %s"):format(code, tostring(got), message))
  assert(type(detail) == "table", "a detail expected")
  return message, detail
end

-- Asserts that fn raises, at a line of the file it was called from; returns the text behind the place.
function M.assert_raises(pattern, fn, ...)
  local ok, message = pcall(fn, ...)
  assert(not ok, "an error expected")
  assert(tostring(message):find(pattern), ("'%s' does not match '%s'"):format(tostring(message), pattern))
  return message
end

-- In the place of `it` for what is about the connections to one server, or what only one server can do: in a cluster
-- it is not described.
function M.on_one_server(it) return clustered and function() end or it end

local function nodes(client) return clustered and M.server().cluster.nodes or { { client = client } } end

-- The answer of the server to a command, an integer; of a cluster the sum of its nodes' answers.
function M.sum(client, ...)
  local sum = 0
  for _, one in ipairs(nodes(client)) do
    sum = sum + assert(one.client:call(...))
  end
  return sum
end

-- How often a command was executed since CONFIG RESETSTAT, by its lower-case name.
function M.calls(client, command)
  local sum = 0
  for _, one in ipairs(nodes(client)) do
    local text = assert(one.client:info("commandstats"))
    sum = sum + (tonumber(text:match("cmdstat_" .. command .. ":calls=(%d+)")) or 0)
  end
  return sum
end

-- How many connections have the name; of a cluster those of all nodes.
function M.connections(client, name)
  local count = 0
  for _, one in ipairs(nodes(client)) do
    count = count + select(2, assert(one.client:client("LIST")):gsub(" name=" .. name .. " ", ""))
  end
  return count
end

-- A number of the server's INFO; of a cluster the sum over its nodes.
function M.info(client, section, field)
  local sum
  for _, one in ipairs(nodes(client)) do
    local text = assert(one.client:info(section))
    local number = tonumber(text:match(field .. ":(%d+)"))
    sum = number and (sum or 0) + number or sum
  end
  return sum
end

-- Waits until `check` holds; for what another process does in its own time.
function M.eventually(client, what, check)
  local by = os.time() + 10
  repeat
    if check() then return end
    client:call("DEBUG", "SLEEP", "0.005")
  until os.time() > by
  error("not within 10 s: " .. what)
end

return M
