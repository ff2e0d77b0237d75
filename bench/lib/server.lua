-- SPDX-License-Identifier: MIT
-- A redis-server of the benchmark's own on loopback, with the data set loaded; it ends when this
-- process does, however that ends.
local M = {}

local function output(command)
  local pipe <close> = assert(io.popen(command))
  return (pipe:read("a"):gsub("%s+$", ""))
end

local function quote(text)
  return "'" .. text:gsub("'", "'\\''") .. "'"
end
M.output, M.quote = output, quote

-- Keys are named as in bench/peers/shared/bench.*; values have 16 bytes, list items 32, the big
-- one 64 KiB.
local load = [[
local value = "0123456789abcdef"
for i = 0, 999 do
  redis.call("SET", string.format("bench:key:%04d", i), value)
  redis.call("HSET", "bench:hash", string.format("field:%010d", i), value)
end
for i = 1, 10000 do redis.call("RPUSH", "bench:list", value .. value) end
redis.call("SET", "bench:big", string.rep("x", 65536))
redis.call("SET", "bench:json", '{"id":9007199254740993,"name":"Ada Lovelace","mail":"ada@example.org",'
  .. '"roles":["user","admin"],"score":0.75,"active":true,"address":{"city":"London","zip":"W1"}}')
return redis.call("DBSIZE")]]

-- The shell around the server waits on a pipe from here, and ends the server when that closes.
local watcher = [[
"$@" & server=$!
read -r _
kill "$server"
wait "$server"]]

local function shell_line(words)
  for i, word in ipairs(words) do words[i] = quote(word) end
  return table.concat(words, " ")
end

-- One try on one port -> server, or nil if nothing of ours answers there.
local function try(dir, port)
  local log_path, socket = dir .. "/server.log", dir .. "/bench.sock"
  local words = {
    "sh", "-c", watcher, "sh", "redis-server", "--port", tostring(port), "--bind", "127.0.0.1",
    "--save", "", "--appendonly", "no", "--dir", dir, "--logfile", log_path,
    "--unixsocket", socket, "--unixsocketperm", "700",
  }
  local cli = "redis-cli " .. (port == 0 and "-s " .. quote(socket) or "-p " .. port) .. " "
  os.remove(log_path)
  local pipe = assert(io.popen("exec " .. shell_line(words), "w"))
  for _ = 1, 200 do
    -- The log names the pid of our server; another one that has the port would answer its own.
    local log = io.open(log_path)
    local pid = log and log:read("a"):match("^(%d+):")
    if log then log:close() end
    if pid and output(cli .. "info server 2>&1"):match("process_id:(%d+)") == pid then
      return {
        pid = tonumber(pid),
        address = port == 0 and "unix:" .. socket or "127.0.0.1:" .. port,
        cli = function(arguments) return output(cli .. arguments) end,
        stop = function() return pipe:close() end,
      }
    end
    os.execute("sleep 0.02")
  end
  pipe:close()
end

-- start{dir=, unix=bool} -> server {address=, pid=, cli(arguments), stop()}
function M.start(options)
  for _ = 1, 5 do
    local server = try(options.dir, options.unix and 0 or math.random(20000, 29999))
    if server then
      local keys = server.cli("eval " .. quote(load) .. " 0")
      assert(keys == "1004", "loading the data failed: " .. keys)
      return server
    end
  end
  error("redis-server did not start; is it installed?  See tools/bench-setup", 0)
end

return M
