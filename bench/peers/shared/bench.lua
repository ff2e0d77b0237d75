-- SPDX-License-Identifier: MIT
-- What the Lua peers share: the command line, the clock loop, the line of JSON.
--
-- A peer gives `open(host, port) -> works`; a work is a function(full) that does one operation and
-- checks it: every element when `full`, else count, first and last.
local M = {small = 16, big = 65536, list = 10000, item = 32, value = "0123456789abcdef"}

M.many, M.bulk = 50, 500 -- jobs
M.job = {text = ("x"):rep(88)}
M.json_id = 9007199254740993 -- of the cached object; no double holds it

M.keys = {}
for i = 0, 999 do
  M.keys[i + 1] = ("bench:key:%04d"):format(i)
end

M.commands = {pipe100 = 100, pipe1000 = 1000, lock = 2, job50 = 50, jobs = 500} -- in one operation

function M.wrong(length)
  error(("unexpected reply: not OK, or a string of %d bytes"):format(length), 2)
end

function M.string(value, length)
  if type(value) ~= "string" or #value ~= length then M.wrong(length) end
end

function M.strings(values, count, length, full)
  if type(values) ~= "table" or #values ~= count then
    error(("unexpected reply: not an array of %d"):format(count), 2)
  end
  for i = 1, full and count or 0 do
    M.string(values[i], length)
  end
  M.string(values[1], length)
  M.string(values[count], length)
end

function M.hash(values, full)
  M.string(values["field:0000000000"], M.small)
  M.string(values["field:0000000999"], M.small)
  if full then
    local count = 0
    for _, value in pairs(values) do
      M.string(value, M.small)
      count = count + 1
    end
    assert(count == 1000, "unexpected reply: not a map of 1,000")
  end
end

-- Lua's own clocks count whole seconds or CPU; LuaSocket's counts microseconds.  Not monotonic.
local now = require("socket").gettime

local function read(path)
  local file <close> = assert(io.open(path))
  return file:read("a")
end

-- User and system ticks; the kernel scales them, so their ratio is what is used.
local function ticks()
  local user, system = read("/proc/self/stat"):match("%) %S+" .. (" %S+"):rep(10) .. " (%d+) (%d+)")
  return tonumber(user), tonumber(system)
end

local function measure(name, work, budget)
  local limit, timed = tonumber(budget:match("^[%d.]+")), budget:find("s", 1, true)
  assert(limit and limit > 0, "budget: accepted: a count of operations (20000) or seconds (0.25s)")
  local rounds = 0
  local commands = M.commands[name] or 1
  local chunk = (name == "get" or name == "set" or name == "get64k") and 16 or 1
  work(true)
  local user, system = ticks()
  local cpu, begin = os.clock(), now()
  local seconds
  repeat
    for _ = 1, chunk do
      work(false)
    end
    rounds = rounds + chunk
    seconds = now() - begin
  until timed and seconds >= limit or not timed and rounds >= limit
  cpu = os.clock() - cpu
  local user_end, system_end = ticks()
  user, system = user_end - user, system_end - system
  local share = user + system > 0 and user / (user + system) or 0.5
  local peak = read("/proc/self/status"):match("VmHWM:%s*(%d+)")
  print(('{"work":"%s","ops":%d,"seconds":%.6f,"cpu_user":%.6f,"cpu_sys":%.6f,"peak_kib":%d}')
    :format(name, rounds * commands, seconds, cpu * share, cpu * (1 - share), peak))
end

function M.main(args, open)
  local address, name, budget = table.unpack(args)
  local host, port = (address or ""):match("^(.+):(%d+)$")
  if not port then
    host = (address or ""):match("^unix:(.+)$")
  end
  if not host or not budget then
    error("usage: <program> HOST:PORT|unix:PATH WORK COUNT|SECONDSs", 0)
  end
  local work = open(host, tonumber(port))[name] or error("unknown work: " .. name, 0)
  measure(name, work, budget)
end

return M
