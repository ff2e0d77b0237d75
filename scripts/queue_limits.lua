-- SPDX-License-Identifier: MIT
-- queue_limits: a group's own limits, instead of those that all groups have.             writes, O(log jobs)
-- KEYS[1]  <prefix>:{<name>}:queue.jobs      hash: records and payloads of jobs, which have to live for ever
-- KEYS[2]  <prefix>:{<name>}:queue.state     hash: seq, epoch, paused, keep, counters; lives for ever, see queue_pop
-- KEYS[3]  <prefix>:{<name>}:queue.wake      zset: the marker, if a worker is to be woken; one at most, needs no TTL
-- KEYS[4]  <prefix>:{<name>}:queue.groups    zset: what include/queue_group.lua says; lives for ever, as its jobs do
-- ARGV[1]  the group (1 to 128 bytes, no NUL)   ARGV[2]  how many of its jobs may be leased at once (0: no limit)
-- ARGV[3]  how many may begin in a window (0: no limit)   ARGV[4]  the window in ms (integer, 1 to 31622400000)
--          ARGV[2] and ARGV[3] are integers up to 1000000; -1: as those that queue_pop is given for all groups
-- Returns  {1} set.  What runs goes on, and a window that is open stays so.
--- @include "status"
--- @include "queue"
--- @include "queue_wake"
--- @include "queue_move"
local jobs, state, wake, groups = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local group, concurrency, limit, window = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

concurrency, limit = queue_whole(concurrency, -1, 1000000), queue_whole(limit, -1, 1000000)
window = queue_whole(window, 1, 31622400000)
if not (concurrency and limit and window) or #group < 1 or #group > 128 or group:find("\0", 1, true) then
  return redis.error_reply("ERR queue_limits: ARGV is group, concurrency and limit -1 to 1000000, window in ms")
end
queue_groups({jobs = jobs, state = state, groups = groups, wake = wake}).own(group, concurrency, limit, window)
return {QUEUE_OK}
