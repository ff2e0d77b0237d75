-- SPDX-License-Identifier: MIT
-- lock_extend: prolong a lock that the caller still holds; never shortens it.        writes, O(1)
-- KEYS[1]  <prefix>:{<name>}:lock    hash: owner, fence, since (us); lives as long as the lease
-- ARGV[1]  token (binary)            ARGV[2]  lease in ms from now (integer, 1 to 86400000)
-- Returns  {1, ms left} extended     {0} held by another     {-1} gone; the last two write nothing
--- @include "status"
local lock = KEYS[1]
local token, lease = ARGV[1], tonumber(ARGV[2])

if not lease or lease % 1 ~= 0 or lease < 1 or lease > 86400000 then
  return redis.error_reply("ERR lock_extend: ARGV[2] is the lease, an integer from 1 to 86400000 ms")
end
local owner = redis.call("HGET", lock, "owner")
if not owner then return {LOCK_GONE} end
if owner ~= token then return {LOCK_HELD} end

local left = redis.call("PTTL", lock)
if left >= lease then return {LOCK_OK, left} end
redis.call("PEXPIRE", lock, string.format("%.0f", lease))
return {LOCK_OK, lease}
