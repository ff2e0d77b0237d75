-- SPDX-License-Identifier: MIT
-- queue_check: whether each job is in one place and has what belongs to it, a part of them in each call.   reads, O(n)
-- KEYS[1]  <prefix>:{<name>}:queue.jobs      hash: records and payloads of jobs, which have to live for ever
-- KEYS[2]  <prefix>:{<name>}:queue.ready     zset: ids by priority and seq; lives for ever, as its jobs do
-- KEYS[3]  <prefix>:{<name>}:queue.delayed   zset: ids by the time they are due (us); lives for ever, as its jobs do
-- KEYS[4]  <prefix>:{<name>}:queue.leased    zset: ids by the end of their lease (us); lives for ever, as its jobs do
-- KEYS[5]  <prefix>:{<name>}:queue.dead      zset: ids by the time they died (us); lives until somebody saw to them
-- KEYS[6]  <prefix>:{<name>}:queue.done      zset: ids of done jobs by the end of their results (us)
-- KEYS[7]  <prefix>:{<name>}:queue.groups    zset: what include/queue_group.lua says; lives for ever, as its jobs do
-- ARGV[1]  what to go through: "0" the hash of jobs, "1" to "6" the set KEYS[2] to KEYS[7]
-- ARGV[2]  where to go on: "0", or what was returned      ARGV[3]  about how many to look at (integer, 1 to 1000)
-- Returns  {1, where to go on ("0": that was all), how many jobs were looked at, what is wrong, id, ...}
-- Each thing is judged as it is at one moment, so a queue in use gives no false alarm.
--- @include "status"
--- @include "queue"
--- @include "queue_group"
--- @include "queue_bundle"
--- @include "queue_check"
local jobs, ready, delayed, leased = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local dead, done, groups = KEYS[5], KEYS[6], KEYS[7]
local which, cursor, count = ARGV[1], ARGV[2], ARGV[3]

which, count = queue_whole(which, 0, 6), queue_whole(count, 1, 1000)
if not (which and count and queue_whole(cursor, 0, math.huge)) then
  return redis.error_reply("ERR queue_check: ARGV is 0 to 6, where to go on, count 1 to 1000")
end
local sets, answer = {ready, delayed, leased, dead, done, groups}, {QUEUE_OK, "0", 0}
local q = {jobs = jobs, groups = groups, leased = leased}
if which > 0 then
  local found = redis.call("ZSCAN", sets[which], cursor, "COUNT", queue_text(count))
  answer[2] = found[1]
  for i = 1, #found[2], 2 do
    if which == 6 then queue_check_group(q, found[2][i], answer)
    else queue_check_member(jobs, found[2][i], answer) end
  end
else
  local found = redis.call("HSCAN", jobs, cursor, "COUNT", queue_text(count))
  answer[2] = found[1]
  for i = 1, #found[2], 2 do queue_check_field(q, sets, found[2][i], found[2][i + 1], answer) end
end
return answer
