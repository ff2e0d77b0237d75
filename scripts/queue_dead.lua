-- SPDX-License-Identifier: MIT
-- queue_dead: the dead jobs, those that died first in front.                         reads, O(n + log jobs)
-- KEYS[1]  <prefix>:{<name>}:queue.jobs      hash: records and payloads of jobs, which have to live for ever
-- KEYS[2]  <prefix>:{<name>}:queue.dead      zset: ids by the time they died (us); lives until somebody saw to them
-- ARGV[1]  how many to leave out (integer, 0 to 2^53)   ARGV[2]  how many at most (integer, 1 to 500)
-- Returns  {1, how many there are, id, us when it died, failures, crashes, priority, epoch, payload, why, ... of each}
--- @include "status"
--- @include "queue"
local jobs, dead = KEYS[1], KEYS[2]
local first, count = ARGV[1], ARGV[2]

first, count = queue_whole(first, 0, 9007199254740992), queue_whole(count, 1, 500)
if not (first and count) then return redis.error_reply("ERR queue_dead: ARGV is first >= 0, count 1 to 500") end
local answer = {QUEUE_OK, redis.call("ZCARD", dead)}
local found = redis.call("ZRANGE", dead, queue_text(first), queue_text(first + count - 1), "WITHSCORES")
for i = 1, #found, 2 do
  local id, record = found[i], queue_record(jobs, found[i])
  if record then
    local payload, why = unpack(redis.call("HMGET", jobs, "p" .. id, "e" .. id))
    for _, value in ipairs {id, tonumber(found[i + 1]), record[QUEUE_FAILURES], record[QUEUE_CRASHES],
      record[QUEUE_PRIORITY], record[QUEUE_EPOCH], payload or "", why or ""} do
      answer[#answer + 1] = value
    end
  end
end
return answer
