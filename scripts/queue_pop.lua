-- SPDX-License-Identifier: MIT
-- queue_pop: take jobs under a lease, after moving on delayed jobs and leases that are over.   writes, O(n * log jobs)
-- KEYS[1]  <prefix>:{<name>}:queue.jobs      hash: records and payloads of jobs, which have to live for ever
-- KEYS[2]  <prefix>:{<name>}:queue.state     hash: seq, epoch, paused, keep; lives for ever: an epoch never comes again
-- KEYS[3]  <prefix>:{<name>}:queue.ready     zset: ids by priority and seq; lives for ever, as its jobs do
-- KEYS[4]  <prefix>:{<name>}:queue.delayed   zset: ids by the time they are due (us); lives for ever, as its jobs do
-- KEYS[5]  <prefix>:{<name>}:queue.leased    zset: ids by the end of their lease (us); lives for ever, as its jobs do
-- KEYS[6]  <prefix>:{<name>}:queue.dead      zset: ids by the time they died (us); lives until somebody saw to them
-- KEYS[7]  <prefix>:{<name>}:queue.done      zset: ids of done jobs by the end of their results (us)
-- KEYS[8]  <prefix>:{<name>}:queue.wake      zset: the marker, if a worker is to be woken; one at most, needs no TTL
-- KEYS[9]  <prefix>:{<name>}:queue.groups    zset: what include/queue_group.lua says; lives for ever, as its jobs do
-- KEYS[10]  <prefix>:{<name>}:queue.pop+req.<id>  string: optional: what this request was given; lives 10 minutes
-- KEYS, the last, optional: <prefix>:{<name>}:queue.events, a stream, kept to about as many entries as the last ARGV says
-- ARGV[1]  how many at most (integer, 1 to 500)   ARGV[2]  lease in ms (integer, 1 to 86400000)
-- ARGV[3]  waits: "1" if it does when there is none   ARGV[4]  keeps: "1" if it is the keeper (include/queue_wake.lua)
-- ARGV[5]  optional, limits of groups without their own: jobs leased at once   ARGV[6]  jobs begun in a window (both 0:
--          no limit, to 1000000)   ARGV[7]  the window in ms (integer, 1 to 31622400000)
-- Returns  {1, us to wait at most, 1 if the caller is the keeper now, id (of a group's job with a NUL byte and the group
--          behind it), epoch, attempt, payload, ... of each job}
--          {-1} none of the jobs that this request was given is leased to it any more
-- The clock is the server's.  One that was set back prolongs leases and delays.
--- @include "clock"
--- @include "status"
--- @include "request"
--- @include "queue"
--- @include "queue_store"
--- @include "queue_wake"
--- @include "queue_move"
--- @include "queue_expire"
--- @include "queue_due"
--- @include "queue_pop"
local length = #ARGV % 3 == 2 and table.remove(ARGV)
local events = length and table.remove(KEYS)
local jobs, state, ready, delayed = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local leased, dead, done, wake, groups, request = KEYS[5], KEYS[6], KEYS[7], KEYS[8], KEYS[9], KEYS[10]
local count, lease, waits, keeps = ARGV[1], ARGV[2], ARGV[3] == "1", ARGV[4] == "1"
local concurrency, limit, window = ARGV[5], ARGV[6], ARGV[7]

--- @include "queue_tell"
count, lease = queue_whole(count, 1, 500), queue_whole(lease, 1, 86400000)
local q = {jobs = jobs, state = state, ready = ready, delayed = delayed, groups = groups}
q.leased, q.dead, q.done, q.wake, q.tell = leased, dead, done, wake, tell
if not (count and lease and (not limit or queue_groups(q).limits(concurrency, limit, window))) then
  return redis.error_reply("ERR queue_pop: ARGV is count 1 to 500, lease 1 to 86400000 ms, waits, keeps, limits")
end
local given = request_answered(request)
if given then
--- @include "queue_lease"
--- @include "queue_given"
  local answer = queue_given(q, given, now, lease, {QUEUE_OK, QUEUE_LOOK, 0})
  return #answer > 3 and answer or {QUEUE_LOST}
end
local answer = queue_pop(q, now, count, lease, waits, keeps, {QUEUE_OK})
if request and #answer > 3 then
  given = {}
  for i = 4, #answer, 4 do given[#given + 1], given[#given + 2] = answer[i], answer[i + 1] end
  request_keep(request, given)
end
return answer
