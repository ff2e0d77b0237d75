-- topic: what numbers its messages; the channel has the name of the key.
-- <prefix>:{<name>}:topic   hash: epoch (16 hex digits, new whenever the numbers begin anew), seq (of the last message);
--                           of a durable one time, too (ms, of the last message), and young (ms; see topic_append)
local TOPIC_TTL = "2592000000" -- 30 days from the last message on

-- Epoch and number of the last message, then `time` and `young`, nil unless it is durable.  "" and 0: there is no topic
-- yet; nil: something else is there.
local function topic_read(topic)
  local held = redis.call("HMGET", topic, "epoch", "seq", "time", "young")
  if not held[1] and not held[2] and redis.call("EXISTS", topic) == 0 then return "", 0 end
  local seq = tonumber(held[2] or nil)
  local sound = held[1] and #held[1] == 16 and seq and seq >= 1 and seq % 1 == 0 and seq < 9007199254740992
  if sound then return held[1], seq, tonumber(held[3] or nil), tonumber(held[4] or nil) end
end

local function topic_message(epoch, seq, payload)
  return epoch .. ":" .. string.format("%.0f", seq) .. ":" .. payload
end
