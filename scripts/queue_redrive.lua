-- SPDX-License-Identifier: MIT
-- queue_redrive: dead jobs are ready again, as if never run; those that died first in front.   writes, O(n * log jobs)
-- KEYS[1]  <prefix>:{<name>}:queue.jobs      hash: records and payloads of jobs, which have to live for ever
-- KEYS[2]  <prefix>:{<name>}:queue.state     hash: seq, epoch, paused, keep, counters; lives for ever, see queue_pop
-- KEYS[3]  <prefix>:{<name>}:queue.ready     zset: ids by priority and seq; lives for ever, as its jobs do
-- KEYS[4]  <prefix>:{<name>}:queue.dead      zset: ids by the time they died (us); lives until somebody saw to them
-- KEYS[5]  <prefix>:{<name>}:queue.wake      zset: the marker, if a worker is to be woken; one at most, needs no TTL
-- KEYS[6]  <prefix>:{<name>}:queue.groups    zset: what include/queue_group.lua says; lives for ever, as its jobs do
-- KEYS, the last, optional: <prefix>:{<name>}:queue.events, a stream, kept to about as many entries as the last ARGV says
-- ARGV[1]  how many to leave out (integer, 0 to 2^53)   ARGV[2]  how many at most (integer, 1 to 500)
-- Returns  {1, how many are ready, how many stay dead since a job that is alive has their unique key}
--- @include "status"
--- @include "queue"
--- @include "queue_store"
--- @include "queue_wake"
--- @include "queue_move"
local length = #KEYS == 7 and table.remove(ARGV)
local events = length and table.remove(KEYS)
local jobs, state, ready = KEYS[1], KEYS[2], KEYS[3]
local dead, wake, groups = KEYS[4], KEYS[5], KEYS[6]
local first, count = ARGV[1], ARGV[2]

--- @include "queue_tell"
first, count = queue_whole(first, 0, 9007199254740992), queue_whole(count, 1, 500)
if not (first and count) then return redis.error_reply("ERR queue_redrive: ARGV is first >= 0, count 1 to 500") end
local q = {jobs = jobs, state = state, ready = ready, groups = groups, wake = wake}
local found = redis.call("ZRANGE", dead, queue_text(first), queue_text(first + count - 1))
local seq, moved = tonumber(redis.call("HGET", state, "seq") or 0), 0
for _, id in ipairs(found) do
  local record = queue_record(jobs, id)
  local unique = record and record[QUEUE_UNIQUE] or ""
  if record and (unique == "" or redis.call("HSETNX", jobs, "u" .. unique, id) == 1) then
    seq, moved = seq + 1, moved + 1
    record[QUEUE_SEQ], record[QUEUE_FAILURES], record[QUEUE_CRASHES] = seq, 0, 0
    redis.call("ZREM", dead, id)
    queue_put(jobs, id, record)
    queue_ready(q, id, record)
    if tell then tell("redriven", id, queue_text(record[QUEUE_EPOCH])) end
  end
end
if moved > 0 then
  redis.call("HSET", state, "seq", queue_text(seq))
  queue_ring(wake)
end
return {QUEUE_OK, moved, #found - moved}
