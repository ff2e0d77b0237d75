-- SPDX-License-Identifier: MIT
-- A redis-server of the test's own on a unix socket, and a raw connection to it.  The server ends when the test
-- process does, however that ends: a shell holds the other end of a pipe.
local socket = require "socket"
local unix = require "socket.unix"

local M = {}

local STARTER = [[
trap '' HUP INT TERM # sent to the whole group, they would end this shell before it has cleaned up
dir=$(mktemp -d /tmp/redmoon-scripts-XXXXXX) || exit 1
server=${REDMOON_TEST_SERVER:-redis-server}
"$server" --port 0 --unixsocket "$dir/s" --save '' --dir "$dir" --logfile "$dir/log" </dev/null >/dev/null 2>&1 &
pid=$!
printf '%s' "$dir" > '@'
cat >/dev/null
kill -9 $pid
wait $pid 2>/dev/null
rm -rf "$dir"
]]

-- Calls `ask` until it answers something, for `seconds` at most.
local function await(what, seconds, ask)
  local deadline = socket.gettime() + seconds
  repeat
    local answer = ask()
    if answer then return answer end
    socket.sleep(0.005)
  until socket.gettime() > deadline
  error(what .. " did not happen within " .. seconds .. " s")
end

local Connection = {}
Connection.__index = Connection

local function connect(path)
  local link = unix.stream and unix.stream() or unix()
  if not link:connect(path) then link:close() return nil end
  link:settimeout(30)
  return setmetatable({link = link}, Connection)
end

local function encode(args)
  local out = {"*" .. #args .. "\r\n"}
  for i = 1, #args do
    local arg = tostring(args[i])
    out[#out + 1] = "$" .. #arg .. "\r\n" .. arg .. "\r\n"
  end
  return table.concat(out)
end

function Connection:receive()
  local line = assert(self.link:receive("*l"))
  local kind, rest = line:sub(1, 1), line:sub(2)
  if kind == ":" then return math.tointeger(rest) end
  if kind == "+" then return rest end
  if kind == "-" then return {err = rest} end
  local len = math.tointeger(rest)
  if len < 0 then return false end
  if kind == "$" then
    return assert(self.link:receive(len + 2)):sub(1, -3)
  end
  local items = {}
  for i = 1, len do items[i] = self:receive() end
  return items
end

-- Replies as in a script: integers, strings, false for nil, arrays, {err = text}.
function Connection:call(...)
  assert(self.link:send(encode {...}))
  return self:receive()
end

-- Sends many commands together; returns their replies.
function Connection:batch(commands)
  local out = {}
  for i = 1, #commands do out[i] = encode(commands[i]) end
  assert(self.link:send(table.concat(out)))
  for i = 1, #commands do out[i] = self:receive() end
  return out
end

function Connection:close() self.link:close() end

-- Returns a connection, a function that stops the server, and one that gives another connection.
function M.start()
  local note = os.tmpname()
  local shell = assert(io.popen(STARTER:gsub("@", note), "w"))
  local function read_note()
    local file = io.open(note, "rb")
    local text = file and file:read("a") or ""
    if file then file:close() end
    return text ~= "" and text
  end
  local dir = await("the folder of redis-server", 10, read_note)
  os.remove(note)
  local connection = await("a connection to redis-server", 10, function() return connect(dir .. "/s") end)
  assert(connection:call("PING") == "PONG")
  return connection, function()
    connection:close()
    shell:close()
  end, function() return assert(connect(dir .. "/s")) end
end

return M
