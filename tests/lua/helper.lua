-- SPDX-License-Identifier: MIT
-- What the specs share: private servers, clients of every kind, and asserts for failures.

local redmoon = require "redmoon"

local M = {}

local debugging = { "--enable-debug-command", "yes" }
local servers = {}

-- The server of this run, on a unix socket.
function M.server()
  if not servers.unix then servers.unix = assert(redmoon.embedded { config = debugging }) end
  return servers.unix
end

-- Its TCP sibling; the port is tried, because nobody can reserve one.
local function tcp_server()
  if servers.tcp then return servers.tcp, servers.port end
  local why
  for try = 1, 50 do
    local port = 20000 + (M.server().pid * 7 + try * 131) % 40000
    local server, message = redmoon.embedded {
      config = { "--port", port, "--bind", "127.0.0.1", "--enable-debug-command", "yes" },
    }
    if server then
      servers.tcp, servers.port = server, port
      return server, port
    end
    why = message
  end
  error(why)
end

function M.tcp_url()
  local _, port = tcp_server()
  return "redis://127.0.0.1:" .. port .. "/0"
end

-- Every way to reach a server that must not make a difference.
M.ways = {
  { name = "unix, RESP3", url = function() return M.server().url end, protocol = 3 },
  { name = "unix, RESP2", url = function() return M.server().url end, protocol = 2 },
  { name = "TCP, RESP3", url = M.tcp_url, protocol = 3 },
  { name = "TCP, RESP2", url = M.tcp_url, protocol = 2 },
}

function M.connect(way, options)
  options = options or {}
  options.protocol = way.protocol
  return assert(redmoon.connect(way.url(), options))
end

-- A client of the unix server with an empty database.
function M.client(options)
  local client = assert(M.server():connect(options))
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

-- A number of the server's INFO.
function M.info(client, section, field)
  local text = assert(client:info(section))
  return tonumber(text:match(field .. ":(%d+)"))
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
