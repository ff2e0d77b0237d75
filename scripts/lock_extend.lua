-- SPDX-License-Identifier: MIT
-- lock_extend: prolong a lock that the caller still holds; never shortens it.        writes, O(1)
-- KEYS[1]  <prefix>:{<name>}:lock    hash: owner, fence, since (us), max (ms), waits, h<id>: a hold; lives for the lease
-- ARGV[1]  token (binary)            ARGV[2]  lease in ms from now (integer, 1 to 86400000)
-- ARGV[3]  id of the hold (text)
-- Returns  {1, ms left} extended; fewer than the lease: it ends with the longest hold, and cannot be prolonged further
--          {-2, ms left} it cannot be prolonged     {0} held by another     {-1} gone; these write nothing
--- @include "clock"
--- @include "status"
--- @include "lock"
local lock = KEYS[1]
local token, lease, id = ARGV[1], tonumber(ARGV[2]), ARGV[3]

if not lease or lease % 1 ~= 0 or lease < 1 or lease > 86400000 then
  return redis.error_reply("ERR lock_extend: ARGV[2] is the lease, an integer from 1 to 86400000 ms")
end
local owner, since, max, mine = unpack(redis.call("HMGET", lock, "owner", "since", "max", "h" .. id))
if not owner then return {LOCK_GONE} end
if owner ~= token or not mine then return {LOCK_HELD} end

local left, wanted = redis.call("PTTL", lock), lock_lease(lease, since, max, now)
if left >= lease then return {LOCK_OK, left} end
if wanted < lease and left >= wanted - 2 then return {LOCK_SPENT, left} end -- what is left to win is rounding
redis.call("PEXPIRE", lock, string.format("%.0f", wanted))
return {LOCK_OK, wanted}
