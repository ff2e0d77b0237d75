-- SPDX-License-Identifier: MIT
-- rwlock_write: become the writer while nobody else reads or writes.                 writes, O(log readers)
-- KEYS[1]  <prefix>:{<name>}:rwlock.readers   zset: <token>:1 by end of lease (us); lives as long as the longest
-- KEYS[2]  <prefix>:{<name>}:rwlock.writer    hash: owner, fence, ends (us); lives as long as the lease
-- KEYS[3]  <prefix>:{<name>}:rwlock.waiting   string: until when a waiting writer keeps readers out (us); lives till then
-- KEYS[4]  <prefix>:{<name>}:rwlock.fence     string: the last fence; lives 30 days from the last writer on
-- KEYS[5]  <prefix>:{<name>}:rwlock.waits     string: somebody waits (include/waits.lua); lives 10 s from the last ask
-- ARGV[1]  token (binary)   ARGV[2]  lease in ms (integer, 1 to 86400000)
-- ARGV[3]  if it must wait, for how long no new reader is let in, in ms (integer, 0 to 10000); it asks again before that
-- Returns  {1, us left, fence} writing, or was already
--          {0, retry_after_us, readers} others read, or (readers = 0) another writes; only KEYS[3] and [5] may be written
--- @include "clock"
--- @include "status"
--- @include "fences"
--- @include "places"
--- @include "waits"
local readers, writer, waiting, last_fence, waits = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local token, lease, wait = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])

if not (lease and wait) or lease % 1 ~= 0 or wait % 1 ~= 0 or lease < 1 or lease > 86400000 or wait < 0
  or wait > 10000 then
  return redis.error_reply("ERR rwlock_write: ARGV is token, lease 1 to 86400000 ms, wait 0 to 10000 ms: integers")
end
local holder = redis.call("HMGET", writer, "owner", "ends", "fence")
local written = tonumber(holder[2] or 0)
if written > now and holder[1] == token then return {PERMIT_OK, written - now, tonumber(holder[3])} end
local size, over = places_count(readers, now)
local read = size > over and places_at(readers, -1) or 0
local busy = math.max(written, read)
if busy > now then
  if wait > 0 then
    redis.call("SET", waiting, places_text(now + wait * 1000), "PX", places_text(wait + 1))
    redis.call("SET", waits, "1", "PX", WAITS_TTL)
  end
  return {PERMIT_BUSY, busy - now, size - over}
end
local fence = fence_next(last_fence, now)
if not fence then return redis.error_reply("ERR rwlock_write: KEYS[4] holds no fence") end

fence_keep(last_fence, fence)
redis.call("UNLINK", readers, waiting) -- readers whose lease is over must not live again if the clock is set back
redis.call("HSET", writer, "owner", token, "fence", places_text(fence), "ends", places_text(now + lease * 1000))
redis.call("PEXPIRE", writer, places_text(lease + 1))
return {PERMIT_OK, lease * 1000, fence}
