-- topic_log: what a durable topic keeps.  The id of a message is <seq>-<ms>: a range of numbers is a range of ids.
-- <prefix>:{<name>}:topic.log   stream: {p}
local function topic_text(number) return string.format("%.0f", number) end

-- Number and time (ms) of the first message that is kept from number `from` on; nil: there is none.
local function topic_entry(log, from)
  local id = (redis.call("XRANGE", log, topic_text(from), "+", "COUNT", "1")[1] or {})[1]
  if not id then return nil end
  local seq, ms = string.match(id, "^(%d+)-(%d+)$")
  return tonumber(seq), tonumber(ms)
end
