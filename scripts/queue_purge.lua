-- SPDX-License-Identifier: MIT
-- queue_purge: remove the jobs of one state, at most 500 in a call, those in front first.   writes, O(n * log jobs)
-- KEYS[1]  <prefix>:{<name>}:queue.jobs      hash: records and payloads of jobs, which have to live for ever
-- KEYS[2]  <prefix>:{<name>}:queue.state     hash: seq, epoch, paused, keep, counters; lives for ever, see queue_pop
-- KEYS[3]  <prefix>:{<name>}:queue.<state>    zset: ids of the jobs that are ready, delayed, dead or done; see queue_pop
-- KEYS[4]  <prefix>:{<name>}:queue.groups    zset: optional, of those that are ready: see include/queue_group.lua
-- ARGV[1]  done: "1" if it is the set of those that are done
-- Returns  {1, how many were removed, how many are left}
--- @include "status"
--- @include "queue"
--- @include "queue_store"
--- @include "queue_wake"
--- @include "queue_move"
--- @include "queue_bundle"
local jobs, state, set, groups = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local is_done = ARGV[1] == "1"

local function purge(key, member, id)
  local record = queue_record(jobs, id)
  if record then queue_unbind(jobs, id, record) end
  queue_forget(jobs, id)
  redis.call("ZREM", key, member)
end
local count, bundled, of = 0, 0, {}
for _, member in ipairs(redis.call("ZRANGE", set, "0", "499")) do
  if bundle_marks(member) then
    local base, several = bundle_name(member)
    redis.call("HDEL", jobs, "b" .. base, "c" .. base)
    redis.call("ZREM", set, member)
    count, bundled = count + several, bundled + several - 1
  else
    purge(set, member, member)
    count = count + 1
  end
end
if bundled > 0 then redis.call("HINCRBY", state, "bundled", queue_text(-bundled)) end
local left = redis.call("ZCARD", set)
if groups and count < 500 then
  local q = {jobs = jobs, state = state, groups = groups, quiet = true}
  for _, member in ipairs(redis.call("ZRANGEBYLEX", groups, "[w", "(x", "LIMIT", "0", queue_text(500 - count))) do
    local group, rest = member:match("^w(%Z+)%z(.*)$")
    purge(groups, member, rest:sub(17))
    count, of[group] = count + 1, true
  end
  for group in pairs(of) do queue_groups(q).settle(group) end
end
if groups then
  left = left + redis.call("ZLEXCOUNT", groups, "[w", "(x") + tonumber(redis.call("HGET", state, "bundled") or 0)
end
if count > 0 and not is_done then redis.call("HINCRBY", state, "removed", queue_text(count)) end
return {QUEUE_OK, count, left}
