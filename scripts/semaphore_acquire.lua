-- SPDX-License-Identifier: MIT
-- semaphore_acquire: take permits if so many are free, with a lease of their own.   writes, O(count + log permits)
-- KEYS[1]  <prefix>:{<name>}:semaphore            zset: <token>:<i> by end of lease (us); lives as long as the longest
-- KEYS[2]  <prefix>:{<name>}:semaphore.fence      string: the last fence; lives 30 days from the last holder on
-- KEYS[3]  <prefix>:{<name>}:semaphore.waits      string: somebody waits (include/waits.lua); lives 10 s
-- KEYS[4]  <prefix>:{<name>}:semaphore+req.<id>   string: optional: what this request was given; lives 10 minutes
-- ARGV[1]  token (binary)                            ARGV[2]  permits there are (integer, 1 to 100000)
-- ARGV[3]  count wanted (integer, 1 to 1000)         ARGV[4]  lease in ms (integer, 1 to 86400000)
-- ARGV[5]  stays: 1 when the caller will ask again, else 0
-- Returns  {1, in_use, permits, us left, fence, count, token} taken, or had already by this token or request
--          {0, in_use, permits, retry_after_us} not so many are free; -1: there never are; only KEYS[3] may be written
--          {-1} what this request was given is over, or was given back
-- A clock set back prolongs leases.  What is over is dropped so far that what stays in the set is <= permits: not even
-- if the clock makes it live again are there too many.
--- @include "clock"
--- @include "status"
--- @include "fences"
--- @include "places"
--- @include "places_give"
--- @include "request"
--- @include "waits"
local places, last_fence, waits, request = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local stays = ARGV[5] == "1"
local token, permits, count, lease = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local MAX_DROP = 1000 -- of one call, unless permits became fewer

if not (permits and count and lease) or permits % 1 ~= 0 or count % 1 ~= 0 or lease % 1 ~= 0 or permits < 1
  or permits > 100000 or count < 1 or count > 1000 or lease < 1 or lease > 86400000 then
  return redis.error_reply("ERR semaphore_acquire: ARGV is token, permits 1 to 100000, count 1 to 1000, "
    .. "lease 1 to 86400000 ms: integers")
end
local size, over = places_count(places, now)
local in_use = size - over
local given = request_answered(request)
if given then
  local ends = places_end(places, given.token, given.count, now)
  if not ends then return {PERMIT_GONE} end
  return {PERMIT_OK, in_use, permits, ends - now, given.fence, given.count, given.token}
end
local ends = places_end(places, token, count, now)
if not ends and in_use + count > permits then
  local retry = count > permits and -1 or places_at(places, over + in_use + count - permits - 1) - now
  if stays and retry >= 0 then redis.call("SET", waits, "1", "PX", WAITS_TTL) end
  return {PERMIT_BUSY, in_use, permits, retry}
end
local fence = fence_next(last_fence, now)
if not fence then return redis.error_reply("ERR semaphore_acquire: KEYS[2] holds no fence") end

fence_keep(last_fence, fence)
if not ends then
  local drop = math.min(over, math.max(MAX_DROP, size + count - permits))
  if drop > 0 then redis.call("ZREMRANGEBYRANK", places, 0, drop - 1) end
  ends, in_use = now + lease * 1000, in_use + count
  places_give(places, token, count, ends, now)
end
request_keep(request, {token = token, count = count, fence = fence})
return {PERMIT_OK, in_use, permits, ends - now, fence, count, token}
