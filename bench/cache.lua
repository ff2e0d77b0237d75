#!/usr/bin/env lua5.4
-- SPDX-License-Identifier: MIT
-- A cache hit with its decoding beside a bare GET with the same decoding, in one process, in turns.
--
--   cmake --preset bench && cmake --build --preset bench
--   export LUA_PATH='build/bench/lua/?.lua;build/bench/lua/?/init.lua;;' LUA_CPATH='build/bench/lua/?.so;;'
--   lua5.4 bench/cache.lua
--
-- It starts a server of its own. Each round runs both, one after the other; what is printed is the median of the rounds'
-- ratios (above 1: the cache is faster than the bare GET), and the ratio of the best rounds, which a busy machine moves
-- less.
local redmoon = require "redmoon"
local socket = require "socket"

local ROUNDS, TURNS = 60, 1000
local server <close> = assert(redmoon.embedded())
local client <close> = assert(server:connect())
local cache = assert(client:cache { name = "bench", ttl = 3600 })

local function never() error("it is there") end

local function time(fn)
  local began = socket.gettime()
  for _ = 1, TURNS do fn() end
  return (socket.gettime() - began) / TURNS * 1e6
end

print("| bytes of JSON | bare GET | cache hit | ratio, median | ratio, best rounds |")
print("| --- | --- | --- | --- | --- |")
for _, fields in ipairs { 1, 10, 50 } do
  local record = {}
  for i = 1, fields do record["field" .. i] = "value number " .. i .. " with some text" end
  local text = assert(redmoon.json.encode(record))
  assert(client:set("plain", text))
  assert(cache:set("k", record))
  local function bare() return redmoon.json.decode(client:get("plain")) end
  local function hit() return (cache:get("k", never)) end
  time(bare)
  time(hit)
  local bares, hits, ratios = {}, {}, {}
  for i = 1, ROUNDS do
    bares[i], hits[i] = time(bare), time(hit)
    ratios[i] = bares[i] / hits[i]
  end
  table.sort(ratios)
  table.sort(bares)
  table.sort(hits)
  print(("| %d | %.2f µs | %.2f µs | %.3f | %.3f |"):format(#text, bares[1], hits[1], ratios[ROUNDS // 2],
    bares[1] / hits[1]))
end
