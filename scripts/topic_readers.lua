-- SPDX-License-Identifier: MIT
-- topic_readers: the named readers of a durable topic.                                                 reads, O(readers)
-- KEYS[1]  <prefix>:{<name>}:topic           hash: epoch, seq
-- KEYS[2]  <prefix>:{<name>}:topic.readers   hash: cursors by name
-- Returns  {1, last, name, seq, ms since it was opened or acknowledged, ... of each}: has acknowledged up to seq; 0 as
--          well if that was before the numbers began anew
--- @include "clock"
--- @include "status"
--- @include "topic"
--- @include "topic_cursor"
local topic, readers = KEYS[1], KEYS[2]

local epoch, last = topic_read(topic)
if not epoch then return redis.error_reply("ERR topic_readers: KEYS[1] holds no topic") end
local answer, all = {TOPIC_OK, last}, redis.call("HGETALL", readers)
for i = 1, #all, 2 do
  local cursor = topic_cursor(all[i + 1])
  if cursor then
    local quiet = math.max(math.floor(now / 1000) - cursor.ms, 0)
    answer[#answer + 1], answer[#answer + 2] = all[i], cursor.epoch == epoch and cursor.seq or 0
    answer[#answer + 1] = quiet
  end
end
return answer
