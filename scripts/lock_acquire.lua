-- SPDX-License-Identifier: MIT
-- lock_acquire: take a lock that nobody holds, with a fence above all before it, or hold it once more.  writes, O(1)
-- KEYS[1]  <prefix>:{<name>}:lock    hash: owner, fence, since (us), max (ms), h<id> of each hold; lives for the lease
-- KEYS[2]  <prefix>:{<name>}:fence   string: the last fence; lives 30 days from the last holder on
-- KEYS[3]  <prefix>:{<name>}:lock+req.<id>   string: the answer to a request (include/request.lua); optional
-- ARGV[1]  token (binary)            ARGV[2]  lease in ms (integer, 1 to 86400000)
-- ARGV[3]  id of this hold (text)    ARGV[4]  ms it may be held in all (integer, the lease to 31622400000; 0: no limit)
-- Returns  {1, fence, ms left, holds} acquired; or this hold has it already: a repetition changes nothing
--          {2, fence, ms left, holds} its owner holds it once more; the lease was prolonged, never shortened
--          {0, holder's fence, ms left} held by another     {-1} what the request had got is gone; these write nothing
--          with KEYS[3] token and id of the hold follow holds: they may be those of an earlier request
-- The fence is max(last + 1, server time in us): when its key is lost the clock still puts it above.  So that key may
-- have a TTL: it only has to outlive a clock that was set back.
--- @include "clock"
--- @include "status"
--- @include "again"
--- @include "request"
--- @include "lock"
local lock, last_fence, request = KEYS[1], KEYS[2], KEYS[3]
local token, lease, id, max = ARGV[1], tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])
local FENCE_TTL, MOST_HOLDS = "2592000000", 1000

if not lease or lease % 1 ~= 0 or lease < 1 or lease > 86400000 then
  return redis.error_reply("ERR lock_acquire: ARGV[2] is the lease, an integer from 1 to 86400000 ms")
end
if not max or max % 1 ~= 0 or max ~= 0 and (max < lease or max > 31622400000) then
  return redis.error_reply("ERR lock_acquire: ARGV[4] is the longest hold, an integer, 0 or lease to 31622400000 ms")
end
local first = request_answered(request)
if first then token, id = first[5], first[6] end
local owner, fence, since, limit, mine = unpack(redis.call("HMGET", lock, "owner", "fence", "since", "max", "h" .. id))
if first and not (owner == token and mine) then return {LOCK_GONE} end
if owner and owner ~= token then return {LOCK_HELD, tonumber(fence), redis.call("PTTL", lock)} end

local answer = {mine and LOCK_OK or LOCK_MORE, tonumber(fence), 0, 1, request and token, request and id}
if owner then
  local holds, left = lock_holds(lock, limit), redis.call("PTTL", lock)
  if not mine and holds >= MOST_HOLDS then return redis.error_reply("ERR lock_acquire: it is held 1000 times already") end
  local wanted = lock_lease(lease, since, limit, now)
  if mine then written_again(lock) else redis.call("HSET", lock, "h" .. id, "1") end
  if not mine and left < wanted then redis.call("PEXPIRE", lock, string.format("%.0f", wanted)) end
  answer[3], answer[4] = mine and left or math.max(left, wanted), mine and holds or holds + 1
  return mine and answer or request_keep(request, answer)
end
local last = tonumber(redis.call("GET", last_fence) or 0)
if not last or last % 1 ~= 0 or last >= 9007199254740991 then
  return redis.error_reply("ERR lock_acquire: KEYS[2] holds no fence, an integer below 2^53 - 1")
end
answer[1], answer[2], answer[3] = LOCK_OK, math.max(last + 1, now), lease
fence = string.format("%.0f", answer[2])
redis.call("SET", last_fence, fence, "PX", FENCE_TTL)
redis.call("HSET", lock, "owner", token, "fence", fence, "since", string.format("%.0f", now), "h" .. id, "1")
if max > 0 then redis.call("HSET", lock, "max", string.format("%.0f", max)) end
redis.call("PEXPIRE", lock, string.format("%.0f", lease))
return request_keep(request, answer)
