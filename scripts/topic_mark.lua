-- SPDX-License-Identifier: MIT
-- topic_mark: send one subscriber the number of the last message, behind all messages.   writes, O(1)
-- KEYS[1]  <prefix>:{<name>}:topic   hash: epoch, seq; is only read
-- ARGV[1]  the subscriber's token (16 lower-case hex digits)
-- Returns  {1, seq, receivers, epoch} of the last message; seq 0, epoch "": there is no topic yet
--          Published on the channel <KEYS[1]>.<token>: <epoch>:<seq>:
--          What comes through one connection keeps its order: what has not come before this will not come.
--- @include "status"
--- @include "topic"
local topic = KEYS[1]
local token = ARGV[1]

if not token or #token ~= 16 or token:find("[^0-9a-f]") then
  return redis.error_reply("ERR topic_mark: ARGV is the token: 16 lower-case hex digits")
end
local epoch, seq = topic_read(topic)
if not epoch then return redis.error_reply("ERR topic_mark: KEYS[1] holds no topic") end
local receivers = redis.call("PUBLISH", topic .. "." .. token, topic_message(epoch, seq, ""))
return {TOPIC_OK, seq, receivers, epoch}
