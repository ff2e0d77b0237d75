-- SPDX-License-Identifier: MIT
-- queue_release: give jobs back as if they had not been taken; they keep their places.   writes, O(n * log jobs)
-- KEYS[1]  <prefix>:{<name>}:queue.jobs      hash: records and payloads of jobs, which have to live for ever
-- KEYS[2]  <prefix>:{<name>}:queue.ready     zset: ids by priority and seq; lives for ever, as its jobs do
-- KEYS[3]  <prefix>:{<name>}:queue.leased    zset: ids by the end of their lease (us); lives for ever, as its jobs do
-- KEYS[4]  <prefix>:{<name>}:queue.wake      zset: the marker, if a worker is to be woken; one at most, needs no TTL
-- KEYS[5]  <prefix>:{<name>}:queue.state     hash: seq, epoch, paused, keep, counters; lives for ever, see queue_pop
-- KEYS[6]  <prefix>:{<name>}:queue.groups    zset: what include/queue_group.lua says; lives for ever, as its jobs do
-- KEYS, the last, optional: <prefix>:{<name>}:queue.events, a stream, kept to about as many entries as the last ARGV says
-- ARGV, of each job, at most 500: id, epoch of the lease
-- Returns  {1, code of each job}: 1 given back, 0 no such job, -1 the lease passed to another, or was given up
--- @include "status"
--- @include "queue"
--- @include "queue_wake"
--- @include "queue_move"
--- @include "queue_lease"
local length = #KEYS == 7 and table.remove(ARGV)
local events = length and table.remove(KEYS)
local jobs, ready, leased, wake, state, groups = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local args, count = ARGV, #ARGV / 2

--- @include "queue_tell"
if count % 1 ~= 0 or count < 1 or count > 500 then
  return redis.error_reply("ERR queue_release: ARGV is 1 to 500 times id, epoch")
end
local q = {jobs = jobs, state = state, ready = ready, groups = groups, wake = wake}
local answer = {QUEUE_OK}
for i = 1, count do
  local id = args[2 * i - 1]
  local record, code = queue_leased(jobs, leased, id, args[2 * i])
  answer[i + 1] = record and QUEUE_OK or code
  if record then
    if record[QUEUE_GROUP] then queue_groups(q).left(id, record[QUEUE_GROUP]) end
    queue_ready(q, id, record)
    if tell then tell("released", id, args[2 * i]) end
    queue_ring(wake)
  end
end
return answer
