-- SPDX-License-Identifier: MIT
-- queue_purge: remove the jobs of one state, at most 500 in a call, those in front first.   writes, O(n * log jobs)
-- KEYS[1]  <prefix>:{<name>}:queue.jobs      hash: records and payloads of jobs, which have to live for ever
-- KEYS[2]  <prefix>:{<name>}:queue.state     hash: seq, epoch, paused, keep, counters; lives for ever, see queue_pop
-- KEYS[3]  <prefix>:{<name>}:queue.<state>    zset: ids of the jobs that are ready, delayed, dead or done; see queue_pop
-- ARGV[1]  done: "1" if it is the set of those that are done
-- Returns  {1, how many were removed, how many are left}
--- @include "status"
--- @include "queue"
--- @include "queue_store"
local jobs, state, set = KEYS[1], KEYS[2], KEYS[3]
local is_done = ARGV[1] == "1"

local found = redis.call("ZRANGE", set, "0", "499")
for _, id in ipairs(found) do
  local record = queue_record(jobs, id)
  if record then queue_unbind(jobs, id, record) end
  queue_forget(jobs, id)
  redis.call("ZREM", set, id)
end
if #found > 0 and not is_done then redis.call("HINCRBY", state, "removed", queue_text(#found)) end
return {QUEUE_OK, #found, redis.call("ZCARD", set)}
