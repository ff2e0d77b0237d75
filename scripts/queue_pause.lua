-- SPDX-License-Identifier: MIT
-- queue_pause: hand out no jobs, until it goes on.  What runs may end.                 writes, O(1)
-- KEYS[1]  <prefix>:{<name>}:queue.state     hash: seq, epoch, paused, keep, counters; lives for ever, see queue_pop
-- KEYS[2]  <prefix>:{<name>}:queue.wake      zset: the marker, if a worker is to be woken; one at most, needs no TTL
-- KEYS, the last, optional: <prefix>:{<name>}:queue.events, a stream, kept to about as many entries as the last ARGV says
-- ARGV[1]  what: "1" pauses, "0" goes on
-- Returns  {1, 1 if it was paused before}
--- @include "status"
--- @include "queue"
--- @include "queue_wake"
local length = #KEYS == 3 and table.remove(ARGV)
local events = length and table.remove(KEYS)
local state, wake = KEYS[1], KEYS[2]
local pause = ARGV[1]

--- @include "queue_tell"
if pause ~= "0" and pause ~= "1" then return redis.error_reply("ERR queue_pause: ARGV[1] is 0 or 1") end
local before = redis.call("HEXISTS", state, "paused")
if pause == "1" then
  redis.call("HSET", state, "paused", "1")
else
  redis.call("HDEL", state, "paused")
  queue_ring(wake)
end
if tell then tell(pause == "1" and "paused" or "resumed", "", "0") end
return {QUEUE_OK, before}
