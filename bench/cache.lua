#!/usr/bin/env lua5.4
-- SPDX-License-Identifier: MIT
-- A cache hit with its decoding beside a bare GET with the same decoding, in one process, in turns.
--
--   cmake --preset bench && cmake --build --preset bench
--   export LUA_PATH='build/bench/lua/?.lua;build/bench/lua/?/init.lua;;' LUA_CPATH='build/bench/lua/?.so;;'
--   lua5.4 bench/cache.lua
--
-- And a second table: hits of the same value stored compressed, below the threshold, and with tags, beside a plain one.
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

local function time(fn, turns)
  turns = turns or TURNS
  local began = socket.gettime()
  for _ = 1, turns do fn() end
  return (socket.gettime() - began) / turns * 1e6
end

-- The rounds' median of the first one's time through the other's, both best times, in turns.
local function compare(one, other, turns)
  time(one)
  time(other)
  local ones, others, ratios = {}, {}, {}
  for i = 1, ROUNDS do
    ones[i], others[i] = time(one, turns), time(other, turns)
    ratios[i] = ones[i] / others[i]
  end
  table.sort(ratios)
  table.sort(ones)
  table.sort(others)
  return ratios[ROUNDS // 2], ones[1], others[1]
end

local function record_of(fields)
  local record = {}
  for i = 1, fields do record["field" .. i] = "value number " .. i .. " with some text" end
  return record
end

print("| bytes of JSON | bare GET | cache hit | ratio, median | ratio, best rounds |")
print("| --- | --- | --- | --- | --- |")
for _, fields in ipairs { 1, 10, 50 } do
  local record = record_of(fields)
  local text = assert(redmoon.json.encode(record))
  assert(client:set("plain", text))
  assert(cache:set("k", record))
  local function bare() return redmoon.json.decode(client:get("plain")) end
  local function hit() return (cache:get("k", never)) end
  local ratio, bares, hits = compare(bare, hit)
  print(("| %d | %.2f µs | %.2f µs | %.3f | %.3f |"):format(#text, bares, hits, ratio, bares / hits))
end

-- Without a codec of any cost, so that it is the cache's own time that is compared.
print("\n| bytes | stored | plain | compressed | compressed : plain | below the threshold : plain | two tags : plain |")
print("| --- | --- | --- | --- | --- | --- | --- |")
local function text_cache(name, options)
  options.name, options.ttl, options.codec = name, 3600, "string"
  return assert(client:cache(options))
end
local plain, small = text_cache("plain", {}), text_cache("small", { compress = 1 << 20 })
local packed, tagged = text_cache("packed", { compress = 1024 }), text_cache("tagged", { tags = true })
for _, fields in ipairs { 49, 1530 } do
  local text = assert(redmoon.json.encode(record_of(fields)))
  local function hit(c, options)
    assert(c:set("k", text, options))
    return function() return (c:get("k", never)) end
  end
  local base, turns = hit(plain), #text > 10000 and 200 or nil
  local p, best, best_packed = compare(base, hit(packed), turns)
  local s = compare(base, hit(small), turns)
  local t = compare(base, hit(tagged, { tags = { "a", "b" } }), turns)
  local stored = client:strlen("redmoon:{k}:packed.cache")
  print(("| %d | %d | %.2f µs | %.2f µs | %.3f | %.3f | %.3f |"):format(#text, stored, best, best_packed, 1 / p, 1 / s,
    1 / t))
end
