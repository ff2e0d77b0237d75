-- SPDX-License-Identifier: MIT
-- semaphore_peek: how many permits are in use, and when one is free.                 reads, O(log permits)
-- KEYS[1]  <prefix>:{<name>}:semaphore   zset: <token>:<i> by end of lease (us); lives as long as the longest
-- ARGV[1]  permits there are (integer, 1 to 100000)
-- Returns  {1, in_use, permits, 0} one is free     {0, in_use, permits, retry_after_us} none is
--- @include "clock"
--- @include "status"
--- @include "places"
local places = KEYS[1]
local permits = tonumber(ARGV[1])

if not permits or permits % 1 ~= 0 or permits < 1 or permits > 100000 then
  return redis.error_reply("ERR semaphore_peek: ARGV[1] is permits, an integer from 1 to 100000")
end
local size, over = places_count(places, now)
if size - over < permits then return {PERMIT_OK, size - over, permits, 0} end
return {PERMIT_BUSY, size - over, permits, places_at(places, size - permits) - now}
