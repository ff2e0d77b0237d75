-- SPDX-License-Identifier: MIT
-- lock_acquire: take a lock that nobody holds, and a fence above all before it.      writes, O(1)
-- KEYS[1]  <prefix>:{<name>}:lock    hash: owner, fence, since (us); lives as long as the lease
-- KEYS[2]  <prefix>:{<name>}:fence   string: the last fence; lives 30 days from the last holder on
-- ARGV[1]  token (binary)            ARGV[2]  lease in ms (integer, 1 to 86400000)
-- Returns  {1, fence, ms left} acquired, or held by this token already: a repeated request changes nothing
--          {0, fence of the holder, ms left} held by another; nothing is written
-- The fence is max(last + 1, server time in us): when its key is lost (FLUSHALL, eviction, promotion of a replica
-- that lagged) the clock still puts it above.  So that key may have a TTL: it only has to outlive a clock that was
-- set back.
--- @include "clock"
--- @include "status"
local lock, last_fence = KEYS[1], KEYS[2]
local token, lease = ARGV[1], tonumber(ARGV[2])
local FENCE_TTL = "2592000000"

if not lease or lease % 1 ~= 0 or lease < 1 or lease > 86400000 then
  return redis.error_reply("ERR lock_acquire: ARGV[2] is the lease, an integer from 1 to 86400000 ms")
end
local holder = redis.call("HMGET", lock, "owner", "fence")
if holder[1] then
  return {holder[1] == token and LOCK_OK or LOCK_HELD, tonumber(holder[2]), redis.call("PTTL", lock)}
end
local last = tonumber(redis.call("GET", last_fence) or 0)
if not last or last % 1 ~= 0 or last >= 9007199254740991 then
  return redis.error_reply("ERR lock_acquire: KEYS[2] holds no fence, an integer below 2^53 - 1")
end

local fence = math.max(last + 1, now)
redis.call("SET", last_fence, string.format("%.0f", fence), "PX", FENCE_TTL)
redis.call("HSET", lock, "owner", token, "fence", string.format("%.0f", fence), "since", string.format("%.0f", now))
redis.call("PEXPIRE", lock, string.format("%.0f", lease))
return {LOCK_OK, fence, lease}
