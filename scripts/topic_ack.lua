-- SPDX-License-Identifier: MIT
-- topic_ack: a named reader is done with all messages up to a number.                                     writes, O(1)
-- KEYS[1]  <prefix>:{<name>}:topic           hash: epoch, seq; is only read
-- KEYS[2]  <prefix>:{<name>}:topic.readers   hash: cursors by name; lives until the last reader is removed
-- ARGV[1]  name of the reader   ARGV[2]  its token   ARGV[3]  epoch of the number ("": there was no topic)
-- ARGV[4]  number (integer >= 0)
-- Returns  {1, seq}: has acknowledged up to seq, which never goes back   {0} no such reader
--          {-1} another has opened it since
--- @include "clock"
--- @include "status"
--- @include "topic"
--- @include "topic_cursor"
--- @include "topic_put"
local topic, readers = KEYS[1], KEYS[2]
local name, token, epoch, seq = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])

if not seq or seq % 1 ~= 0 or seq < 0 or seq > 9007199254740991 or (#epoch ~= 0 and #epoch ~= 16) or epoch:find("%X") then
  return redis.error_reply("ERR topic_ack: ARGV is name, token, epoch, number")
end
local current, last = topic_read(topic)
if not current then return redis.error_reply("ERR topic_ack: KEYS[1] holds no topic") end
local cursor, refused = topic_own(readers, name, token)
if refused then return refused end
-- A number above the last one, or of an epoch that is over, is of a past that the server has lost: it means nothing here.
local known = epoch ~= current and epoch == cursor.epoch or epoch == current and seq <= last
local on = cursor.seq
if known then on = epoch == cursor.epoch and math.max(seq, on) or seq else epoch = cursor.epoch end
topic_put(readers, name, epoch, on, now, token)
return {TOPIC_OK, on}
