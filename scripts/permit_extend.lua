-- SPDX-License-Identifier: MIT
-- permit_extend: prolong permits of a semaphore, or to read; never shortens.         writes, O(count * log permits)
-- KEYS[1]  <prefix>:{<name>}:<part>   zset: <token>:<i> by end of lease (us); lives as long as the longest
-- ARGV[1]  token (binary)   ARGV[2]  count that it has (integer, 1 to 1000)
-- ARGV[3]  lease in ms from now (integer, 1 to 86400000)
-- Returns  {1, us left} extended     {-1} over or gone, nothing written
--- @include "clock"
--- @include "status"
--- @include "places"
--- @include "places_give"
local places = KEYS[1]
local token, count, lease = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])

if not (count and lease) or count % 1 ~= 0 or lease % 1 ~= 0 or count < 1 or count > 1000 or lease < 1
  or lease > 86400000 then
  return redis.error_reply("ERR permit_extend: ARGV is token, count 1 to 1000, lease 1 to 86400000 ms: integers")
end
local ends = places_end(places, token, count, now)
if not ends then return {PERMIT_GONE} end
if ends < now + lease * 1000 then
  ends = now + lease * 1000
  places_give(places, token, count, ends, now)
end
return {PERMIT_OK, ends - now}
