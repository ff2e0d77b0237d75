-- SPDX-License-Identifier: MIT
-- topic_publish: number a message, and send it to whoever is subscribed.             writes, O(1 + subscribers)
-- KEYS[1]  <prefix>:{<name>}:topic            hash: epoch, seq; lives 30 days from the last message on
-- KEYS[2]  <prefix>:{<name>}:topic+req.<id>   string: optional: what this request was answered; lives 10 minutes
-- ARGV[1]  payload (binary)   ARGV[2]  epoch to begin with where there is none (16 lower-case hex digits)
-- Returns  {1, seq, receivers, epoch}   Published on the channel named like KEYS[1]: <epoch>:<seq>:<payload>
--          An error: nothing was written or sent
--- @include "status"
--- @include "request"
--- @include "again"
--- @include "topic"
local topic, request = KEYS[1], KEYS[2]
local payload, fresh = ARGV[1], ARGV[2]

if not payload or not fresh or #fresh ~= 16 or fresh:find("[^0-9a-f]") then
  return redis.error_reply("ERR topic_publish: ARGV is payload, epoch: 16 lower-case hex digits")
end
local answered = request_answered(request)
if answered then written_again(request) return answered end
local epoch, seq, time = topic_read(topic)
if time then return redis.error_reply("ERR topic_publish: the topic is durable; publish with durable = true") end
if not epoch or seq >= 9007199254740991 then
  return redis.error_reply("ERR topic_publish: KEYS[1] holds no topic that could be numbered on")
end
if epoch == "" then epoch = fresh end

seq = seq + 1
redis.call("HSET", topic, "epoch", epoch, "seq", string.format("%.0f", seq))
redis.call("PEXPIRE", topic, TOPIC_TTL)
local receivers = redis.call("PUBLISH", topic, topic_message(epoch, seq, payload))
return request_keep(request, {TOPIC_OK, seq, receivers, epoch})
