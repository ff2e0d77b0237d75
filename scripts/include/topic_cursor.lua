-- topic_cursor: up to where a named reader has acknowledged, and who reads in its name.
-- <prefix>:{<name>}:topic.readers   hash: by name <epoch>:<seq>:<ms of the last open or ack>:<token of the last open>
local function topic_cursor(text)
  local epoch, seq, ms, token = string.match(text or "", "^(%x*):(%d+):(%d+):(%x+)$")
  return epoch and {epoch = epoch, seq = tonumber(seq), ms = tonumber(ms), token = token}
end

-- The cursor of a reader whose token this is; or nil, and the answer that refuses it.
local function topic_own(readers, name, token)
  local cursor = topic_cursor(redis.call("HGET", readers, name))
  if not cursor then return nil, {TOPIC_GONE} end
  if cursor.token ~= token then return nil, {TOPIC_LOST} end
  return cursor
end
