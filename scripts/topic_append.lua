-- SPDX-License-Identifier: MIT
-- topic_append: number a message, keep it, and send it to who is subscribed. writes, O(subscribers + readers + log kept)
-- KEYS[1]  <prefix>:{<name>}:topic            hash: epoch, seq, time, young; lives for ever: cursors go by its numbers
-- KEYS[2]  <prefix>:{<name>}:topic.log        stream: {p}; lives as long as its youngest message is kept, or for ever
-- KEYS[3]  <prefix>:{<name>}:topic.readers    hash: cursors by name; is only read
-- KEYS[4]  <prefix>:{<name>}:topic+req.<id>   string: optional: what this request was answered; lives 10 minutes
-- ARGV[1]  payload (binary)   ARGV[2]  epoch to begin with where there is none (16 lower-case hex digits)
-- ARGV[3]  how many messages are kept (integer, 0 to 10^9; 0: any number)
-- ARGV[4]  ms for which they are (integer, 0 to 31622400000; 0: for ever)   One of these two is not 0.
-- ARGV[5]  hold: what readers have not acknowledged is kept in spite of these two, while it is no more than so many
--          messages (integer, 0 to 10^9)
-- Returns  {1, seq, receivers, epoch}   An error: nothing was written or sent
-- Whole nodes of the stream are let go, so up to one node more is kept (stream-node-max-entries).  `young`: what is kept
-- no longer was published before.
--- @include "clock"
--- @include "status"
--- @include "request"
--- @include "again"
--- @include "topic"
--- @include "topic_log"
--- @include "topic_cursor"
--- @include "topic_cut"
local topic, log, readers, request = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local payload, fresh = ARGV[1], ARGV[2]
local length, age, hold = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])

local function whole(number, max) return number and number % 1 == 0 and number >= 0 and number <= max end
if not (whole(length, 1e9) and whole(age, 31622400000) and whole(hold, 1e9)) or length + age == 0
  or #fresh ~= 16 or fresh:find("[^0-9a-f]") then
  return redis.error_reply("ERR topic_append: ARGV is payload, epoch: 16 lower-case hex digits, length, age in ms, hold")
end
local answered = request_answered(request)
if answered then written_again(request) return answered end
local epoch, seq, time, young = topic_read(topic)
if not epoch or seq >= 9007199254740991 then
  return redis.error_reply("ERR topic_append: KEYS[1] holds no topic that could be numbered on")
end
if epoch == "" then epoch = fresh end
redis.call("XLEN", log) -- fails before anything is written, if it is no stream
local slowest = hold > 0 and topic_slowest(readers, epoch)

seq = seq + 1
local ms = math.max(math.floor(now / 1000), time or 0)
if not time then redis.call("DEL", log) end -- of numbers that were lost
redis.call("XADD", log, topic_text(seq) .. "-" .. topic_text(ms), "p", payload)
local cut = length > 0 and seq - length or 0
if age > 0 and (young or 0) <= ms - age then
  local first, at = topic_young(log, seq, ms - age)
  cut, young = math.max(cut, first - 1), at
end
if slowest then cut = math.min(cut, math.max(slowest, seq - hold)) end
if cut > 0 then redis.call("XTRIM", log, "MINID", "~", topic_text(cut + 1)) end
if age > 0 and hold == 0 then redis.call("PEXPIRE", log, topic_text(age)) else redis.call("PERSIST", log) end
redis.call("HSET", topic, "epoch", epoch, "seq", topic_text(seq), "time", topic_text(ms), "young", topic_text(young or 0))
redis.call("PERSIST", topic)
local receivers = redis.call("PUBLISH", topic, topic_message(epoch, seq, payload))
return request_keep(request, {TOPIC_OK, seq, receivers, epoch})
