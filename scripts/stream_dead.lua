-- SPDX-License-Identifier: MIT
-- stream_dead: the dead entries, those that died first in front.                               reads, O(n)
-- KEYS[1]  <prefix>:{<name>}:stream.dead       stream: {p, id, attempts, epoch, error}; lives until somebody saw to them
-- ARGV[1]  behind which of them to begin: "0-0", or the place of an answer before   ARGV[2]  how many at most (1 to 500)
-- Returns  {1, how many there are, place, id, ms when it died, attempts, epoch, payload, error, ... of each}
--- @include "status"
--- @include "stream"
local dead = KEYS[1]
local place, count = ARGV[1], ARGV[2]

count = stream_whole(count, 1, 500)
if not (count and string.find(place, "^%d+%-%d+$")) then
  return redis.error_reply("ERR stream_dead: ARGV is place, count 1 to 500")
end
local answer = {STREAM_OK, redis.call("XLEN", dead), place}
for _, entry in ipairs(redis.call("XRANGE", dead, "(" .. place, "+", "COUNT", stream_text(count))) do
  local is = {}
  for i = 1, #entry[2], 2 do is[entry[2][i]] = entry[2][i + 1] end
  answer[3] = entry[1]
  for _, value in ipairs {is.id or "", tonumber(string.match(entry[1], "^%d+")), tonumber(is.attempts) or 0,
    tonumber(is.epoch) or 0, is.p or "", is.error or ""} do
    answer[#answer + 1] = value
  end
end
return answer
