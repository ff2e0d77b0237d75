-- SPDX-License-Identifier: MIT
-- lock_acquire_fair: take a lock in turn: who asked first and still asks comes first.            writes, O(log waiters)
-- KEYS[1]  <prefix>:{<name>}:lock    hash: owner, fence, since (us), max (ms), waits, h<id>: a hold; lives for the lease
-- KEYS[2]  <prefix>:{<name>}:fence   string: the last fence; lives 30 days from the last holder on
-- KEYS[3]  <prefix>:{<name>}:lock.queue   zset: tickets by turn; lives 5 s from the last ask of anyone who waits
-- KEYS[4]  <prefix>:{<name>}:lock.beats   zset: the same tickets by when each ends (us), 5 s after it asked; as long
-- KEYS[5]  <prefix>:{<name>}:lock+req.<id>   string: the answer to a request (include/request.lua); optional
-- ARGV[1]  token (binary)            ARGV[2]  lease in ms (integer, 1 to 86400000)
-- ARGV[3]  id of this hold (text), the ticket too
-- ARGV[4]  ms it may be held in all (integer, the lease to 31622400000; 0: no limit)
-- ARGV[5]  stays: 1 when the caller will ask again, and waits in turn till then; 0: it gives its ticket back
-- ARGV[6]  others: 1 when more of the caller's client wait, else 0
-- Returns  {1 or 2, fence, ms left, holds} as lock_acquire; the ticket is gone     {-1} as there
--          {0, holder's fence, ms left, place} held by another; place: of the ticket, from 1, or 0 without one
--          {3, 0, ms, place} nobody holds it, but it is another's turn, whose ticket lives for so long yet
--          of the last three only KEYS[3], KEYS[4], and in the lock whose turn it is are written; tickets that ended go
--          with any call, 1000 at most
--          with KEYS[5] token and id of the hold follow holds: they may be those of an earlier request
--- @include "clock"
--- @include "status"
--- @include "again"
--- @include "request"
--- @include "fences"
--- @include "lock"
--- @include "lock_take"
--- @include "tickets"
--- @include "tickets_turn"
local lock, last_fence, queue, beats, request = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local token, lease, id, max = ARGV[1], tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])
local stays, others, ticket = ARGV[5], ARGV[6] == "1", ARGV[3]

local wrong = lock_wrong(lease, max) or stays ~= "0" and stays ~= "1" and "ARGV[5] is 1 to wait, else 0"
if wrong then return redis.error_reply("ERR lock_acquire_fair: " .. wrong) end
local first = request_answered(request)
if first then token, id = first[5], first[6] end
local owner, fence, _, _, mine = lock_look(lock, id)
local answer
if first and not (owner == token and mine) then
  answer = {LOCK_GONE}
elseif owner == token then
  answer = lock_again(lock, request, token, id, lease, now)
else
  tickets_clear(beats, now)
  local head, ends = tickets_head(queue, beats, now)
  if owner or head and (head ~= ticket or ends <= now) then
    local place = stays == "1" and ticket_keep(queue, beats, ticket, now) or 0
    if place == 0 then ticket_drop(queue, beats, ticket) end
    if owner then
      if place > 0 or head == ticket then redis.call("HSET", lock, "waits", ticket_first(queue) or "") end
      return {LOCK_HELD, tonumber(fence), redis.call("PTTL", lock), place}
    end
    return {LOCK_QUEUED, 0, math.max(math.ceil((ends - now) / 1000), 0), place}
  end
  answer = lock_take(lock, last_fence, request, token, id, lease, max, now)
end
if answer.err then return answer end
ticket_drop(queue, beats, ticket)
local next_turn = answer[1] == LOCK_OK and (ticket_first(queue) or others and "")
if next_turn then redis.call("HSET", lock, "waits", next_turn) end
return answer
