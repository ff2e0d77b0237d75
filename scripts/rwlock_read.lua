-- SPDX-License-Identifier: MIT
-- rwlock_read: become a reader while nobody writes, or waits to.                     writes, O(log readers)
-- KEYS[1]  <prefix>:{<name>}:rwlock.readers   zset: <token>:1 by end of lease (us); lives as long as the longest
-- KEYS[2]  <prefix>:{<name>}:rwlock.writer    hash: owner, fence, ends (us); lives as long as the lease
-- KEYS[3]  <prefix>:{<name>}:rwlock.waiting   string: until when a waiting writer keeps readers out (us); lives till then
-- KEYS[4]  <prefix>:{<name>}:rwlock.waits     string: somebody waits (include/waits.lua); lives 10 s from the last ask
-- ARGV[1]  token (binary)   ARGV[2]  lease in ms (integer, 1 to 86400000)
-- ARGV[3]  token of the caller's own permit to write, or "": with it, it may read as well
-- ARGV[4]  stays: 1 when the caller will ask again, else 0
-- Returns  {1, us left} reading, or was already
--          {0, retry_after_us, 1} another writes     {0, retry_after_us, 0} one waits to
--          of these two one who waits writes KEYS[4], the others nothing
--- @include "clock"
--- @include "status"
--- @include "places"
--- @include "places_give"
--- @include "waits"
local readers, writer, waiting, waits = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local token, lease, own, stays = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4] == "1"
local MAX_WAIT, MAX_DROP = 10000000, 1000

if not lease or lease % 1 ~= 0 or lease < 1 or lease > 86400000 then
  return redis.error_reply("ERR rwlock_read: ARGV[2] is the lease, an integer from 1 to 86400000 ms")
end
local ends = places_end(readers, token, 1, now)
if ends then return {PERMIT_OK, ends - now} end
local holder = redis.call("HMGET", writer, "owner", "ends")
local written = tonumber(holder[2] or 0)
local writes = written > now
local foreign = writes and holder[1] ~= own
local wait = not writes and tonumber(redis.call("GET", waiting) or 0) - now or 0
-- One that is too far away was set before the clock was set back.
if foreign or wait > 0 and wait <= MAX_WAIT then
  if stays then redis.call("SET", waits, "1", "PX", WAITS_TTL) end
  return {PERMIT_BUSY, foreign and written - now or wait, foreign and 1 or 0}
end

-- What is over must not live again, when the clock is set back, beside those who came after it.
if holder[1] and not writes then redis.call("DEL", writer) end
local _, over = places_count(readers, now)
if over > 0 then redis.call("ZREMRANGEBYRANK", readers, 0, math.min(over, MAX_DROP) - 1) end
places_give(readers, token, 1, now + lease * 1000, now)
return {PERMIT_OK, lease * 1000}
