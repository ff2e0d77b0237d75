-- SPDX-License-Identifier: MIT
-- queue_extend: prolong leases; never shortens one.                                  writes, O(n * log jobs)
-- KEYS[1]  <prefix>:{<name>}:queue.jobs      hash: records and payloads of jobs, which have to live for ever
-- KEYS[2]  <prefix>:{<name>}:queue.leased    zset: ids by the end of their lease (us); lives for ever, as its jobs do
-- ARGV[1]  lease in ms from now (integer, 1 to 86400000); then of each job, at most 500: id, epoch of the lease
-- Returns  {1, code of each job}: 1 prolonged, 0 no such job, -1 the lease passed to another, or was given up
--- @include "clock"
--- @include "status"
--- @include "queue"
--- @include "queue_lease"
local jobs, leased = KEYS[1], KEYS[2]
local args, lease, count = ARGV, ARGV[1], (#ARGV - 1) / 2

lease = queue_whole(lease, 1, 86400000)
if not lease or count % 1 ~= 0 or count < 1 or count > 500 then
  return redis.error_reply("ERR queue_extend: ARGV is lease 1 to 86400000 ms, and 1 to 500 times id, epoch")
end
local answer, over = {QUEUE_OK}, queue_text(now + lease * 1000)
for i = 1, count do
  local id = args[2 * i]
  local record, code = queue_leased(jobs, leased, id, args[2 * i + 1], true)
  answer[i + 1] = record and QUEUE_OK or code
  if record then redis.call("ZADD", leased, "XX", "GT", over, id) end
end
return answer
