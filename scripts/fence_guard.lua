-- SPDX-License-Identifier: MIT
-- fence_guard: accept a fence unless a higher one was seen at this resource before.  writes, O(1)
-- KEYS[1]  <prefix>:{<resource>}:guard   string: the highest fence seen; lives 30 days from the last accepted one on
-- ARGV[1]  fence (integer, 1 to 9007199254740991)
-- Returns  {1, fence} accepted, and the highest from now on     {0, highest} refused, nothing written
-- It has a TTL because fences are made from the server's clock: a holder whose fence would pass for want of the
-- memory must have been paused for 30 days, while nobody else used the resource.
--- @include "status"
local guard = KEYS[1]
local text, fence = ARGV[1], tonumber(ARGV[1])
local MAX, TTL = 9007199254740991, "2592000000"

if not text:find("^[1-9]%d*$") or fence > MAX then
  return redis.error_reply("ERR fence_guard: ARGV[1] is the fence, an integer from 1 to 9007199254740991")
end
local stored = redis.call("GET", guard) or "0"
local highest = tonumber(stored)
if not stored:find("^%d+$") or highest > MAX then
  return redis.error_reply("ERR fence_guard: KEYS[1] holds no fence, an integer below 2^53")
end
if fence < highest then return {GUARD_REFUSED, highest} end
redis.call("SET", guard, text, "PX", TTL)
return {GUARD_ACCEPTED, fence}
