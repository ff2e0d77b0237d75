-- SPDX-License-Identifier: MIT
-- topic_open: a named reader of a durable topic begins, or goes on; who had it has it no more.        writes, O(log kept)
-- KEYS[1]  <prefix>:{<name>}:topic           hash: epoch, seq, time; is only read
-- KEYS[2]  <prefix>:{<name>}:topic.log       stream: {p}; is only read
-- KEYS[3]  <prefix>:{<name>}:topic.readers   hash: cursors by name; lives until the last reader is removed
-- ARGV[1]  name of the reader (1 to 512 bytes)   ARGV[2]  token of who opens it (16 lower-case hex digits)
-- ARGV[3]  where a new one begins: "start", the first message that is kept, or "end", behind the last one
-- Returns  {1, epoch, seq, 1 if it was there before, else 0}: has acknowledged up to seq   {-2} there are 1000 already
--- @include "clock"
--- @include "status"
--- @include "topic"
--- @include "topic_log"
--- @include "topic_cursor"
--- @include "topic_put"
local topic, log, readers = KEYS[1], KEYS[2], KEYS[3]
local name, token, from = ARGV[1], ARGV[2], ARGV[3]

if #name < 1 or #name > 512 or #token ~= 16 or token:find("[^0-9a-f]") or (from ~= "start" and from ~= "end") then
  return redis.error_reply("ERR topic_open: ARGV is name, token: 16 lower-case hex digits, \"start\" or \"end\"")
end
local epoch, seq, time = topic_read(topic)
if not epoch then return redis.error_reply("ERR topic_open: KEYS[1] holds no topic") end
local cursor = topic_cursor(redis.call("HGET", readers, name))
if cursor then
  topic_put(readers, name, cursor.epoch, cursor.seq, now, token)
  return {TOPIC_OK, cursor.epoch, cursor.seq, 1}
end
if redis.call("HLEN", readers) >= TOPIC_READERS then return {TOPIC_FULL} end
if from == "start" and time then seq = (topic_entry(log, 1) or seq + 1) - 1 end
topic_put(readers, name, epoch, seq, now, token)
return {TOPIC_OK, epoch, seq, 0}
