-- SPDX-License-Identifier: MIT
-- permit_release: give permits of a semaphore, or to read, back.                     writes, O(count * log permits)
-- KEYS[1]  <prefix>:{<name>}:<part>   zset: <token>:<i> by end of lease (us); lives as long as the longest
-- KEYS[2]  <prefix>:{<name>}:<part>.waits   string: somebody waits (include/waits.lua); taken away, and told
-- ARGV[1]  token (binary)   ARGV[2]  count that it has (integer, 1 to 1000)
-- ARGV[3]  last_only: 1 when those who wait can begin only when nobody has one any more, else 0
-- Returns  {1} given back     {-1} over or gone, nothing written
--- @include "clock"
--- @include "status"
--- @include "places"
local places, waits = KEYS[1], KEYS[2]
local token, count, last_only = ARGV[1], tonumber(ARGV[2]), ARGV[3] == "1"

if not count or count % 1 ~= 0 or count < 1 or count > 1000 then
  return redis.error_reply("ERR permit_release: ARGV[2] is the count, an integer from 1 to 1000")
end
if not places_end(places, token, count, now) then return {PERMIT_GONE} end
for i = 1, count do redis.call("ZREM", places, token .. ":" .. i) end
local size, over = 1, 1
if last_only then size, over = places_count(places, now) end
if size == over and redis.call("DEL", waits) == 1 then redis.pcall("PUBLISH", waits, "") end
return {PERMIT_OK}
