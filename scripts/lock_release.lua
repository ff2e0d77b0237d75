-- SPDX-License-Identifier: MIT
-- lock_release: give one hold of a lock back, and with the last one the lock; the fence stays.   writes, O(1)
-- KEYS[1]  <prefix>:{<name>}:lock    hash: owner, fence, since (us), max (ms), h<id> of each hold; lives for the lease
-- ARGV[1]  token (binary)            ARGV[2]  id of the hold (text)
-- Returns  {1} released     {2, fence, holds} its owner holds it still: this hold was given back, now or before
--          {0} held by another     {-1} gone; the last two write nothing
--- @include "status"
--- @include "lock"
local lock = KEYS[1]
local token, id = ARGV[1], ARGV[2]

local owner, fence, max, mine = unpack(redis.call("HMGET", lock, "owner", "fence", "max", "h" .. id))
if not owner then return {LOCK_GONE} end
if owner ~= token then return {LOCK_HELD} end
local holds = lock_holds(lock, max)
if not mine then return {LOCK_MORE, tonumber(fence), holds} end
if holds > 1 then
  redis.call("HDEL", lock, "h" .. id)
  return {LOCK_MORE, tonumber(fence), holds - 1}
end
redis.call("DEL", lock)
return {LOCK_OK}
