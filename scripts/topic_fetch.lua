-- SPDX-License-Identifier: MIT
-- topic_fetch: messages that a durable topic keeps, for a subscriber or a named reader.       reads, O(log kept + count)
-- KEYS[1]  <prefix>:{<name>}:topic           hash: epoch, seq, time
-- KEYS[2]  <prefix>:{<name>}:topic.log       stream: {p}
-- KEYS[3]  <prefix>:{<name>}:topic.readers   hash: optional: cursors by name
-- ARGV[1]  epoch of these numbers ("": there was no topic)   ARGV[2]  from (integer > 0)
-- ARGV[3]  to (integer; 0: the last one)   ARGV[4]  how many at most (integer, 1 to 1000)
-- ARGV[5]  name of the reader   ARGV[6]  its token
-- Returns  {1, epoch, last, from, reached, seq, payload, ... of each}   {0} no such reader   {-1} another opened it since
--          What lies between from and reached and is not among them is not kept.  About 256 KiB at most, or one message.
--          Another epoch, or for a reader another `from`: the numbers began anew, or went back.
--- @include "status"
--- @include "topic"
--- @include "topic_log"
--- @include "topic_cursor"
local topic, log, readers = KEYS[1], KEYS[2], KEYS[3]
local asked, from, to, count = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local name, token = ARGV[5], ARGV[6]

if not (from and to and count) or from % 1 ~= 0 or from < 1 or to % 1 ~= 0 or to < 0 or count % 1 ~= 0 or count < 1
  or count > 1000 then
  return redis.error_reply("ERR topic_fetch: ARGV is epoch, from > 0, to >= 0, count 1 to 1000")
end
local epoch, last, time = topic_read(topic)
if not epoch then return redis.error_reply("ERR topic_fetch: KEYS[1] holds no topic") end
if readers then
  local cursor, refused = topic_own(readers, name, token)
  if refused then return refused end
  if epoch ~= asked and asked ~= "" then from = 1
  elseif from > last + 1 then from = math.min(cursor.seq, last) + 1 end
elseif epoch ~= asked then
  return {TOPIC_OK, epoch, last, from, last}
end
if to == 0 or to > last then to = last end
local answer, size, place, left = {TOPIC_OK, epoch, last, from, to}, 0, from, count
while time and left > 0 and size < 262144 and place <= to do
  local most = math.min(left, 10)
  local found = redis.call("XRANGE", log, topic_text(place), topic_text(to), "COUNT", topic_text(most))
  for _, entry in ipairs(found) do
    local seq, payload = tonumber(string.match(entry[1], "^%d+")), entry[2][2]
    answer[#answer + 1], answer[#answer + 2] = seq, payload
    place, size, left = seq + 1, size + #payload, left - 1
  end
  answer[5] = #found < most and to or place - 1
  if #found < most then return answer end
end
return answer
