-- SPDX-License-Identifier: MIT
-- Redmoon's subscriber from Lua in the flood of subscriber.c, blocking or under a loop:
--
--      lua5.4 subscriber.lua ADDRESS blocking|cqueues SECONDS

local redmoon = require "redmoon"
local socket = require "socket"

local BATCH, WINDOW = 1000, 20
local address, work, limit = arg[1], arg[2], tonumber(arg[3])
local url = address:match("^unix:") and "unix://" .. address:sub(6) or "redis://" .. address
local client = assert(redmoon.connect(url, { loop = work }))

local publisher
if address:match("^unix:") then
  publisher = assert(require("socket.unix")())
  assert(publisher:connect(address:sub(6)))
else
  publisher = assert(socket.connect(address:match("^(.*):(%d+)$")))
end
local script = "for _ = 1, 1000 do redis.call('PUBLISH', 'bench:flood', '0123456789abcdef0123456789abcdef') end"
local request = ("*3\r\n$4\r\nEVAL\r\n$%d\r\n%s\r\n$1\r\n0\r\n"):format(#script, script)
local function publish_batch() assert(publisher:send(request)) end

local function run()
  local sub = assert(client:subscribe { channels = { "bench:flood" }, buffer = 2 * WINDOW * BATCH })
  local ops, began, cpu = 0, socket.gettime(), os.clock()
  for _ = 1, WINDOW do publish_batch() end
  repeat
    for _ = 1, BATCH do
      local message = assert(sub:receive())
      assert(#message.payload == 32)
    end
    ops = ops + BATCH
    publish_batch()
  until socket.gettime() - began >= limit
  local seconds = socket.gettime() - began
  print(('{"work":"%s","ops":%d,"seconds":%.6f,"cpu_us":%.4f}'):format(work, ops, seconds,
    (os.clock() - cpu) * 1e6 / ops))
  sub:close()
end

if work == "cqueues" then
  local loop = require("cqueues").new()
  loop:wrap(run)
  assert(loop:loop())
else
  run()
end
