-- SPDX-License-Identifier: MIT
-- session_list: the sessions of a subject, those that end last first, at most 1,000.       reads, O(m)
-- KEYS[1]  <prefix>:{<subject>}:<name>.sessions   zset: hashes of ids, by their end in ms; lives longer
-- Returns  {1, hash, ms left, hash, ms left, ...}
--- @include "clock"
--- @include "status"
local index = KEYS[1]

local now_ms = math.floor(now / 1000)
local after = string.format("(%.0f", now_ms)
local found = redis.call("ZREVRANGEBYSCORE", index, "+inf", after, "WITHSCORES", "LIMIT", 0, 1000)
local answer = {RECORD_OK}
for i = 1, #found, 2 do
  answer[i + 1], answer[i + 2] = found[i], tonumber(found[i + 1]) - now_ms
end
return answer
