-- SPDX-License-Identifier: MIT
-- lock_release: give one hold of a lock back, and with the last one the lock; the fence stays.   writes, O(1)
-- KEYS[1]  <prefix>:{<name>}:lock    hash: owner, fence, since (us), max (ms), waits, h<id>: a hold; lives for the lease
-- ARGV[1]  token (binary)            ARGV[2]  id of the hold (text)
-- When somebody waits, the channel of the lock's name is told whose turn it is: the ticket, or "" for whoever is next.
-- Returns  {1} released     {2, fence, holds} its owner holds it still: this hold was given back, now or before
--          {0} held by another     {-1} gone; the last two write nothing
--- @include "status"
--- @include "lock"
local lock = KEYS[1]
local token, id = ARGV[1], ARGV[2]

local owner, fence, max, waits, mine = unpack(redis.call("HMGET", lock, "owner", "fence", "max", "waits", "h" .. id))
if not owner then return {LOCK_GONE} end
if owner ~= token then return {LOCK_HELD} end
local holds = lock_holds(lock, max, waits)
if not mine then return {LOCK_MORE, tonumber(fence), holds} end
if holds > 1 then
  redis.call("HDEL", lock, "h" .. id)
  return {LOCK_MORE, tonumber(fence), holds - 1}
end
redis.call("DEL", lock)
if waits then redis.pcall("PUBLISH", lock, waits) end -- who may not publish gives it back all the same
return {LOCK_OK}
