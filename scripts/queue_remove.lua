-- SPDX-License-Identifier: MIT
-- queue_remove: a job is not to be run any more; a worker that has it is told by its next call.   writes, O(log jobs)
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
-- ARGV[1]  id
-- Returns  {1} removed    {0} there is no such job
--- @include "clock"
--- @include "status"
--- @include "queue"
--- @include "queue_store"
--- @include "queue_wake"
--- @include "queue_move"
--- @include "queue_unbundle"
local length = #KEYS == 10 and table.remove(ARGV)
local events = length and table.remove(KEYS)
local jobs, state, ready, delayed = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local leased, dead, done, wake, groups = KEYS[5], KEYS[6], KEYS[7], KEYS[8], KEYS[9]
local id = ARGV[1]

--- @include "queue_tell"
local q = {jobs = jobs, state = state, ready = ready, groups = groups, wake = wake}
local record, ends = queue_record(jobs, id), redis.call("ZSCORE", done, id)
if not record then
  queue_bundles().open(q, id)
  record = queue_record(jobs, id)
end
if not record or ends and tonumber(ends) <= now then return {QUEUE_GONE} end
local group = record[QUEUE_GROUP]
if redis.call("ZREM", leased, id) == 1 and group then queue_groups(q).left(id, group) end
for _, key in ipairs {ready, delayed, dead, done} do redis.call("ZREM", key, id) end
if group and redis.call("ZREM", groups, queue_groups(q).place(id, record)) == 1 then queue_groups(q).settle(group) end
queue_unbind(jobs, id, record)
queue_forget(jobs, id)
if tell then tell("removed", id, queue_text(record[QUEUE_EPOCH])) end
if not ends then redis.call("HINCRBY", state, "removed", "1") end
return {QUEUE_OK}
