-- SPDX-License-Identifier: MIT
-- queue_ack_many: many jobs are done; and, if wanted, the next ones are taken.             writes, O(n * log jobs)
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
-- ARGV[1]  retention in ms of (empty) results (integer, 0 to 31622400000; 0: the jobs are forgotten)
-- ARGV[2]  how many jobs to take next (integer, 0 to 500)   ARGV[3]  their lease in ms (integer, 1 to 86400000)
-- ARGV, behind these, of each job, at most 500: id, epoch of the lease; and then, or not, limits of groups, as queue_pop
-- Returns  {1, code of each job}: 1 done, 0 no such job, -1 the lease passed to another, or was given up; with ARGV[2]
--          followed by what queue_pop returns after its 1.  What is said twice of one job counts once.
--- @include "clock"
--- @include "status"
--- @include "queue"
--- @include "queue_store"
--- @include "queue_wake"
--- @include "queue_move"
--- @include "queue_expire"
--- @include "queue_again"
--- @include "queue_done"
local length = #KEYS == 10 and table.remove(ARGV)
local events = length and table.remove(KEYS)
local jobs, state, ready, delayed = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local leased, dead, done, wake, groups = KEYS[5], KEYS[6], KEYS[7], KEYS[8], KEYS[9]
local retention, count, lease, args = ARGV[1], ARGV[2], ARGV[3], ARGV

--- @include "queue_tell"
retention = queue_whole(retention, 0, 31622400000)
count, lease = queue_whole(count, 0, 500), queue_whole(lease, 1, 86400000)
local q = {jobs = jobs, state = state, ready = ready, delayed = delayed, groups = groups, quiet = count ~= 0}
q.leased, q.dead, q.done, q.wake, q.tell = leased, dead, done, wake, tell
local n, last = math.floor((#args - 3) / 2), #args -- an odd number: the last three are limits
local limits = n * 2 ~= last - 3
if limits then n = n - 1 end
limits = not limits or queue_groups(q).limits(args[last - 2], args[last - 1], args[last])
if not (retention and count and lease and limits) or n < 1 or n > 500 then
  return redis.error_reply("ERR queue_ack_many: ARGV is retention in ms, count 0 to 500, lease in ms, 1 to 500 times "
    .. "id, epoch, and limits of groups")
end
local answer, ended = queue_done_codes(q, args, n)
if #ended < n then queue_written_again(state) end -- one of them may be said once more
if #ended > 0 then queue_done(q, ended, retention, now) end
if count == 0 then return answer end
--- @include "queue_due"
--- @include "queue_pop"
return queue_pop(q, now, count, lease, false, false, answer)
