-- SPDX-License-Identifier: MIT
-- queue_stats: how many jobs there are in each state, and how many there were.         reads, O(log jobs)
-- KEYS[1]  <prefix>:{<name>}:queue.state     hash: seq, epoch, paused, keep, counters; lives for ever, see queue_pop
-- KEYS[2]  <prefix>:{<name>}:queue.ready     zset: ids by priority and seq; lives for ever, as its jobs do
-- KEYS[3]  <prefix>:{<name>}:queue.delayed   zset: ids by the time they are due (us); lives for ever, as its jobs do
-- KEYS[4]  <prefix>:{<name>}:queue.leased    zset: ids by the end of their lease (us); lives for ever, as its jobs do
-- KEYS[5]  <prefix>:{<name>}:queue.dead      zset: ids by the time they died (us); lives until somebody saw to them
-- KEYS[6]  <prefix>:{<name>}:queue.done      zset: ids of done jobs by the end of their results (us)
-- KEYS[7]  <prefix>:{<name>}:queue.groups    zset: what include/queue_group.lua says; lives for ever, as its jobs do
-- Returns  {1, ready, delayed, leased, dead, done and kept, pushed, finished, removed, 1 if paused,
--          us until the first delayed job is due, or lease or window is over (0: it is, -1: there is none), how many of
--          those that are ready are of groups, how many groups have a turn}
-- pushed = finished + removed + ready + delayed + leased + dead, at any time.
--- @include "clock"
--- @include "status"
local state, ready, delayed, leased = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local dead, done, groups = KEYS[5], KEYS[6], KEYS[7]

local answer = {QUEUE_OK}
for i, key in ipairs {ready, delayed, leased, dead, done} do answer[i + 1] = redis.call("ZCARD", key) end
for i, count in ipairs(redis.call("HMGET", state, "pushed", "finished", "removed", "paused", "bundled")) do
  answer[i + 6] = tonumber(count or 0)
end
local bundled = table.remove(answer) -- jobs of bundles (include/queue_bundle.lua), less their members of the set
local grouped = redis.call("ZLEXCOUNT", groups, "[w", "(x")
answer[2] = answer[2] + grouped + bundled
local window = redis.call("ZRANGEBYLEX", groups, "[x", "(y", "LIMIT", "0", "1")[1]
local next = window and tonumber(window:sub(2, 17)) or math.huge
for _, key in ipairs {delayed, leased} do
  next = math.min(next, tonumber(redis.call("ZRANGE", key, "0", "0", "WITHSCORES")[2] or math.huge))
end
answer[11] = next < math.huge and math.max(next - now, 0) or -1
answer[12], answer[13] = grouped, redis.call("ZLEXCOUNT", groups, "[t", "(u")
return answer
