-- SPDX-License-Identifier: MIT
-- queue_progress: what a job has to tell while it runs; its result takes that place.   writes, O(1)
-- KEYS[1]  <prefix>:{<name>}:queue.jobs      hash: records and payloads of jobs, which have to live for ever
-- KEYS[2]  <prefix>:{<name>}:queue.leased    zset: ids by the end of their lease (us); lives for ever, as its jobs do
-- KEYS, the last, optional: <prefix>:{<name>}:queue.events, a stream, kept to about as many entries as the last ARGV says
-- ARGV[1]  id   ARGV[2]  epoch of the lease   ARGV[3]  progress (bytes)
-- Returns  {1} kept    {0} no such job    {-1} the lease passed to another, or was given up
--- @include "status"
--- @include "queue"
--- @include "queue_lease"
local length = #KEYS == 3 and table.remove(ARGV)
local events = length and table.remove(KEYS)
local jobs, leased = KEYS[1], KEYS[2]
local id, epoch, progress = ARGV[1], ARGV[2], ARGV[3]

--- @include "queue_tell"
local record, code = queue_leased(jobs, leased, id, epoch, true)
if not record then return {code} end
redis.call("HSET", jobs, "r" .. id, progress)
if tell then tell("progress", id, epoch) end
return {QUEUE_OK}
