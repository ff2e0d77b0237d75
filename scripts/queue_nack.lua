-- SPDX-License-Identifier: MIT
-- queue_nack: a job failed: it runs again after a delay, or is dead if that was its last attempt.   writes, O(log jobs)
-- KEYS[1]  <prefix>:{<name>}:queue.jobs      hash: records and payloads of jobs, which have to live for ever
-- KEYS[2]  <prefix>:{<name>}:queue.state     hash: seq, epoch, paused, keep, counters; lives for ever, see queue_pop
-- KEYS[3]  <prefix>:{<name>}:queue.ready     zset: ids by priority and seq; lives for ever, as its jobs do
-- KEYS[4]  <prefix>:{<name>}:queue.delayed   zset: ids by the time they are due (us); lives for ever, as its jobs do
-- KEYS[5]  <prefix>:{<name>}:queue.leased    zset: ids by the end of their lease (us); lives for ever, as its jobs do
-- KEYS[6]  <prefix>:{<name>}:queue.dead      zset: ids by the time they died (us); lives until somebody saw to them
-- KEYS[7]  <prefix>:{<name>}:queue.wake      zset: the marker, if a worker is to be woken; one at most, needs no TTL
-- KEYS[8]  <prefix>:{<name>}:queue.groups    zset: what include/queue_group.lua says; lives for ever, as its jobs do
-- KEYS, the last, optional: <prefix>:{<name>}:queue.events, a stream, kept to about as many entries as the last ARGV says
-- ARGV[1]  id   ARGV[2]  epoch of the lease   ARGV[3]  delay in ms (integer, 0 to 315360000000)
-- ARGV[4]  why it failed (text)   ARGV[5]  fatal: "1" if it is of no use to run it again: it is dead at once
-- Returns  {1} it will run again    {2} it is dead    {0} no such job    {-1} the lease passed to another
--- @include "clock"
--- @include "status"
--- @include "queue"
--- @include "queue_store"
--- @include "queue_wake"
--- @include "queue_move"
--- @include "queue_lease"
local length = #KEYS == 9 and table.remove(ARGV)
local events = length and table.remove(KEYS)
local jobs, state, ready, delayed = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local leased, dead, wake, groups = KEYS[5], KEYS[6], KEYS[7], KEYS[8]
local id, epoch, delay, why, fatal = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5] == "1"

--- @include "queue_tell"
delay = queue_whole(delay, 0, 315360000000)
if not delay then
  return redis.error_reply("ERR queue_nack: ARGV[3] is the delay, an integer from 0 to 315360000000 ms")
end
local record, code = queue_leased(jobs, leased, id, epoch)
if not record then return {code} end
local q = {jobs = jobs, state = state, ready = ready, dead = dead, groups = groups, wake = wake}
if record[QUEUE_GROUP] then queue_groups(q).left(id, record[QUEUE_GROUP]) end
local seq, keep = unpack(redis.call("HMGET", state, "seq", "keep"))
local last = fatal or record[QUEUE_FAILURES] + 1 >= record[QUEUE_MAX_ATTEMPTS]
local due = now + delay * 1000
redis.call("HSET", jobs, "e" .. id, why)
record[QUEUE_FAILURES] = record[QUEUE_FAILURES] + 1
if last then
  queue_unbind(jobs, id, record)
  redis.call("ZADD", dead, queue_text(now), id)
elseif delay > 0 then
  redis.call("ZADD", delayed, queue_text(due), id)
  if queue_unkept(tonumber(keep or 0), now, due) then queue_ring(wake) end
else
  record[QUEUE_SEQ] = tonumber(seq) + 1 -- behind those that wait
  redis.call("HSET", state, "seq", queue_text(record[QUEUE_SEQ]))
  queue_ready(q, id, record)
  queue_ring(wake)
end
queue_put(jobs, id, record)
if tell then tell(last and "dead" or "failed", id, epoch) end
return {last and QUEUE_DEAD or QUEUE_OK}
