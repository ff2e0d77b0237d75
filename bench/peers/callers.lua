-- SPDX-License-Identifier: MIT
-- Many coroutines of one loop, each a GET after the other, on a client that multiplexes or not:
--
--      lua5.4 callers.lua ADDRESS cqueues|luv|copas|cqueues_pool|luv_pool|copas_pool-<coroutines> SECONDS

local redmoon = require "redmoon"
local socket = require "socket"

local address, work, seconds = arg[1], arg[2], tonumber(arg[3])
local loop, pool, count = work:match("^(%a+)(_?%a*)%-(%d+)$")
local url = address:match("^unix:") and "unix://" .. address:sub(6) or "redis://" .. address

local uv = loop == "luv" and require "luv"
local client = assert(redmoon.connect(url, { loop = loop, multiplex = pool == "" }))
local ops, by = 0, socket.gettime() + seconds

local function call()
  while socket.gettime() < by do
    assert(#assert(client:get("bench:key:0000")) == 16)
    ops = ops + 1
  end
end

local began, cpu = socket.gettime(), os.clock()
if uv then
  for _ = 1, count do assert(coroutine.resume(coroutine.create(call))) end
  uv.run()
elseif loop == "copas" then
  local copas, left = require "copas", tonumber(count)
  for _ = 1, count do
    copas.addthread(function()
      call()
      left = left - 1
    end)
  end
  while left > 0 do copas.step(1) end
else
  local controller = require("cqueues").new()
  for _ = 1, count do controller:wrap(call) end
  assert(controller:loop())
end
print(('{"work":"%s","ops":%d,"seconds":%.6f,"cpu_us":%.3f}'):format(work, ops, socket.gettime() - began,
  (os.clock() - cpu) * 1e6 / ops))
