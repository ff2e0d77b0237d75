-- SPDX-License-Identifier: MIT
-- queue_ack: a job is done; and, if wanted, the next ones are taken.                 writes, O(n * log jobs)
-- KEYS[1]  <prefix>:{<name>}:queue.jobs      hash: records and payloads of jobs, which have to live for ever
-- KEYS[2]  <prefix>:{<name>}:queue.state     hash: seq, epoch, paused, keep, counters; lives for ever, see queue_pop
-- KEYS[3]  <prefix>:{<name>}:queue.ready     zset: ids by priority and seq; lives for ever, as its jobs do
-- KEYS[4]  <prefix>:{<name>}:queue.delayed   zset: ids by the time they are due (us); lives for ever, as its jobs do
-- KEYS[5]  <prefix>:{<name>}:queue.leased    zset: ids by the end of their lease (us); lives for ever, as its jobs do
-- KEYS[6]  <prefix>:{<name>}:queue.dead      zset: ids by the time they died (us); lives until somebody saw to them
-- KEYS[7]  <prefix>:{<name>}:queue.done      zset: ids of done jobs by the end of their results (us)
-- KEYS[8]  <prefix>:{<name>}:queue.wake      zset: the marker, if a worker is to be woken; one at most, needs no TTL
-- KEYS[9]  <prefix>:{<name>}:queue.groups    zset: what include/queue_group.lua says; lives for ever, as its jobs do
-- KEYS, the last, optional: <prefix>:{<name>}:queue.events, a stream, kept to about as many entries as the last ARGV says
-- ARGV[1]  id   ARGV[2]  epoch of the lease   ARGV[3]  retention in ms (0 to 31622400000; 0: it is forgotten)
-- ARGV[4]  result (bytes; kept with a retention)   ARGV[5]  how many jobs to take next (integer, 0 to 500)
-- ARGV[6]  their lease in ms (integer, 1 to 86400000)   ARGV[7]  ARGV[8]  ARGV[9]  optional: limits, as of queue_pop
-- Returns  {1} done; with ARGV[5] > 0 followed by what queue_pop returns after its 1
--          {0} there is no such job    {-1} the lease passed to another, or was given up; nothing was taken
-- Of a job whose result is kept the same lease may say once more that it is done.
--- @include "clock"
--- @include "status"
--- @include "queue"
--- @include "queue_store"
--- @include "queue_wake"
--- @include "queue_move"
--- @include "queue_lease"
--- @include "queue_again"
--- @include "queue_expire"
local length = #KEYS == 10 and table.remove(ARGV)
local events = length and table.remove(KEYS)
local jobs, state, ready, delayed = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local leased, dead, done, wake, groups = KEYS[5], KEYS[6], KEYS[7], KEYS[8], KEYS[9]
local id, epoch, retention, result, count = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local lease, concurrency, limit, window = ARGV[6], ARGV[7], ARGV[8], ARGV[9]

--- @include "queue_tell"
retention = queue_whole(retention, 0, 31622400000)
count, lease = queue_whole(count, 0, 500), queue_whole(lease, 1, 86400000)
local q = {jobs = jobs, state = state, ready = ready, delayed = delayed, groups = groups, quiet = count ~= 0}
q.leased, q.dead, q.done, q.wake, q.tell = leased, dead, done, wake, tell
if not (retention and count and lease and (not limit or queue_groups(q).limits(concurrency, limit, window))) then
  return redis.error_reply("ERR queue_ack: ARGV is id, epoch, retention, result, count 0 to 500, lease, limits of groups")
end
local record, code, other = queue_leased(jobs, leased, id, epoch)
if record then
--- @include "queue_acked"
else
  local same = code ~= QUEUE_GONE and queue_text(other[QUEUE_EPOCH]) == epoch
  if code == QUEUE_GONE or same then queue_written_again(state) end
  if not same or not redis.call("ZSCORE", done, id) then return {code} end
end
if count == 0 then return {QUEUE_OK} end
--- @include "queue_due"
--- @include "queue_pop"
return queue_pop(q, now, count, lease, false, false, {QUEUE_OK})
