-- SPDX-License-Identifier: MIT
-- queue_peek: what is known of a job.                                                reads, O(1)
-- KEYS[1]  <prefix>:{<name>}:queue.jobs      hash: records and payloads of jobs, which have to live for ever
-- KEYS[2]  <prefix>:{<name>}:queue.ready     zset: ids by priority and seq; lives for ever, as its jobs do
-- KEYS[3]  <prefix>:{<name>}:queue.delayed   zset: ids by the time they are due (us); lives for ever, as its jobs do
-- KEYS[4]  <prefix>:{<name>}:queue.leased    zset: ids by the end of their lease (us); lives for ever, as its jobs do
-- KEYS[5]  <prefix>:{<name>}:queue.dead      zset: ids by the time they died (us); lives until somebody saw to them
-- KEYS[6]  <prefix>:{<name>}:queue.done      zset: ids of done jobs by the end of their results (us)
-- KEYS[7]  <prefix>:{<name>}:queue.groups    zset: what include/queue_group.lua says; lives for ever, as its jobs do
-- ARGV[1]  id
-- Returns  {1, state, us until it is due or its lease or result is over (dead: since it died, < 0; else 0),
--          priority, failures, crashes, max attempts, max crashes, epoch, payload, unique key, why it failed, progress or
--          result (nil: none), group ("": none)}
--          state: 1 ready, 2 delayed, 3 leased, 4 dead, 5 done    {0} there is no such job
--- @include "clock"
--- @include "status"
--- @include "queue"
--- @include "queue_group"
--- @include "queue_bundle"
local jobs, ready, delayed, leased = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local dead, done, groups = KEYS[5], KEYS[6], KEYS[7]
local id = ARGV[1]

local record = queue_record(jobs, id)
if not record then
  local bundle, index = bundle_find(jobs, id)
  local place = bundle and redis.call("ZSCORE", ready, bundle.member)
  if not place then return {QUEUE_GONE} end
  return {QUEUE_OK, 1, 0, 1023 - math.floor(place / BUNDLE_LEVEL), 0, 0, bundle.attempts, bundle.crashes, 0,
    bundle_payload(bundle, index), "", "", false, ""}
end
local group = record[QUEUE_GROUP]
for state, key in ipairs {group and groups or ready, delayed, leased, dead, done} do
  local at = tonumber(redis.call("ZSCORE", key, key == groups and group_place(id, record) or id) or math.huge)
  if at < math.huge then
    if key == done and at <= now then return {QUEUE_GONE} end
    local payload, why, note = unpack(redis.call("HMGET", jobs, "p" .. id, "e" .. id, "r" .. id))
    return {QUEUE_OK, state, state == 1 and 0 or at - now, record[QUEUE_PRIORITY], record[QUEUE_FAILURES],
      record[QUEUE_CRASHES], record[QUEUE_MAX_ATTEMPTS], record[QUEUE_MAX_CRASHES], record[QUEUE_EPOCH], payload or "",
      record[QUEUE_UNIQUE], why or "", note, group or ""}
  end
end
return {QUEUE_GONE}
