-- SPDX-License-Identifier: MIT
-- redlock_take: one server's vote for a lock over several: take it, or prolong it, and learn its fence.   writes, O(1)
-- KEYS[1]  <prefix>:{<name>}:redlock   hash: owner, fence, node; lives for the lease
-- KEYS[2]  <prefix>:{<name>}:redlock.fence   string: the last fence; lives 30 days from the last holder on
-- KEYS[3]  <prefix>:{<name>}:redlock+void.<id>   string: it was given back before it was taken (redlock_release)
-- ARGV[1]  token (binary)            ARGV[2]  lease in ms (integer, 1 to 86400000)
-- ARGV[3]  fence (integer below 2^53 - 1): 0 for the server's next one, or what the voters have agreed on
-- ARGV[4]  node: what the caller calls this server (text)
-- ARGV[5]  tells: 1 when the answer is to tell for how long the server has been up; else 0
-- Returns  {1, fence, ms left, s up} it is the token's; the lease was prolonged, never shortened.  Without a fence in
--          ARGV[3] one that is held is left as it is
--          {0, holder's fence, ms left} held by another     {-1} it was given back before
--          {-2} the token holds it by another name of this server; these three write nothing
-- With a fence the last one is that from here on, unless it is higher: so who takes the lock next gets one above it.
--- @include "clock"
--- @include "status"
--- @include "fences"
local lock, last_fence, void = KEYS[1], KEYS[2], KEYS[3]
local token, lease, agreed, node, tells = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4], ARGV[5]

if not lease or lease % 1 ~= 0 or lease < 1 or lease > 86400000 then
  return redis.error_reply("ERR redlock_take: ARGV[2] is the lease, an integer from 1 to 86400000 ms")
end
if not agreed or agreed % 1 ~= 0 or agreed < 0 or agreed >= 9007199254740991 then
  return redis.error_reply("ERR redlock_take: ARGV[3] is a fence, an integer from 0 to below 2^53 - 1")
end
local owner, fence, name = unpack(redis.call("HMGET", lock, "owner", "fence", "node"))
if owner and owner ~= token then return {REDLOCK_HELD, tonumber(fence), redis.call("PTTL", lock)} end
if owner and name ~= node then return {REDLOCK_TWICE} end
if not owner and redis.call("EXISTS", void) == 1 then return {REDLOCK_VOID} end
local next_fence = fence_next(last_fence, now)
if not next_fence then
  return redis.error_reply("ERR redlock_take: KEYS[2] holds no fence, an integer below 2^53 - 1")
end

local up = tells == "1" and redis.call("INFO", "server"):match("uptime_in_seconds:(%d+)") or "0"
local left = owner and redis.call("PTTL", lock) or 0
if agreed > 0 then
  fence_keep(last_fence, math.max(agreed, next_fence - 1))
elseif not owner then
  agreed = next_fence
  fence_keep(last_fence, agreed)
else
  return {REDLOCK_OK, tonumber(fence), left, tonumber(up)}
end
redis.call("HSET", lock, "owner", token, "fence", string.format("%.0f", agreed), "node", node)
if left < lease then redis.call("PEXPIRE", lock, string.format("%.0f", lease)) end
return {REDLOCK_OK, agreed, math.max(left, lease), tonumber(up)}
