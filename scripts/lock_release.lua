-- SPDX-License-Identifier: MIT
-- lock_release: give a lock back that the caller still holds; the fence stays.       writes, O(1)
-- KEYS[1]  <prefix>:{<name>}:lock    hash: owner, fence, since (us); lives as long as the lease
-- ARGV[1]  token (binary)
-- Returns  {1} released     {0} held by another     {-1} gone; the last two write nothing
--- @include "status"
local lock = KEYS[1]
local token = ARGV[1]

local owner = redis.call("HGET", lock, "owner")
if not owner then return {LOCK_GONE} end
if owner ~= token then return {LOCK_HELD} end
redis.call("DEL", lock)
return {LOCK_OK}
