-- SPDX-License-Identifier: MIT
-- lock_acquire: take a lock that nobody holds, with a fence above all before it, or hold it once more.  writes, O(1)
-- KEYS[1]  <prefix>:{<name>}:lock    hash: owner, fence, since (us), max (ms), waits, h<id>: a hold; lives for the lease
-- KEYS[2]  <prefix>:{<name>}:fence   string: the last fence; lives 30 days from the last holder on
-- KEYS[3]  <prefix>:{<name>}:lock.beats   zset: tickets of those who wait in turn (lock_acquire_fair); only read
-- KEYS[4]  <prefix>:{<name>}:lock+req.<id>   string: the answer to a request (include/request.lua); optional
-- ARGV[1]  token (binary)            ARGV[2]  lease in ms (integer, 1 to 86400000)
-- ARGV[3]  id of this hold (text)    ARGV[4]  ms it may be held in all (integer, the lease to 31622400000; 0: no limit)
-- ARGV[5]  stays: 1 when the caller will ask again; optional   ARGV[6]  others: 1 when more of its client wait; optional
-- Returns  {1, fence, ms left, holds} acquired; or this hold has it already: a repetition changes nothing
--          {2, fence, ms left, holds} its owner holds it once more; the lease was prolonged, never shortened
--          {0, holder's fence, ms left} held by another: one who stays is noted in it, else nothing is written
--          {-1} what the request had got is gone; nothing is written
--          {3, 0, ms} nobody holds it, but others wait in turn, for so long yet at the most; nothing is written either
--          with KEYS[4] token and id of the hold follow holds: they may be those of an earlier request
-- The fence is max(last + 1, server time in us): when its key is lost the clock still puts it above.  So that key may
-- have a TTL: it only has to outlive a clock that was set back.
--- @include "clock"
--- @include "status"
--- @include "again"
--- @include "request"
--- @include "fences"
--- @include "lock"
--- @include "lock_take"
--- @include "tickets"
local lock, last_fence, beats, request = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local token, lease, id, max = ARGV[1], tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])
local stays, others = ARGV[5] == "1", ARGV[6] == "1"

local wrong = lock_wrong(lease, max)
if wrong then return redis.error_reply("ERR lock_acquire: " .. wrong) end
local first = request_answered(request)
if first then token, id = first[5], first[6] end
local owner, fence, _, _, mine = lock_look(lock, id)
if first and not (owner == token and mine) then return {LOCK_GONE} end
if owner == token then return lock_again(lock, request, token, id, lease, now) end
if owner then
  if stays then redis.call("HSETNX", lock, "waits", "") end
  return {LOCK_HELD, tonumber(fence), redis.call("PTTL", lock)}
end
local left = tickets_left(beats, now)
if left > 0 then return {LOCK_QUEUED, 0, math.ceil(left / 1000)} end
local answer = lock_take(lock, last_fence, request, token, id, lease, max, now)
if others and not answer.err then redis.call("HSET", lock, "waits", "") end
return answer
