-- cache_tags: the epoch of a cache's tags, which rises by one with each tag that is invalidated, and behind its 16 digits
-- the ids of the last 64 of those tags, 16 bytes each, newest first.  One string, so that it is lost as a whole or not at
-- all.  It begins with the server's time in microseconds: one that was lost begins above all that it ever was.
local EPOCH_DIGITS, TAG_ID, EPOCH_TAGS = 16, 16, 64
local EPOCH_TTL = "172800000" -- two days: longer than any lease, so than any load that has to know what ended meanwhile

-- Epoch and ids, if need be of one that is to be written yet.
local function epoch_read(key)
  local text = redis.call("GET", key) or ""
  if text:find("^" .. ("%d"):rep(EPOCH_DIGITS)) then
    return tonumber(text:sub(1, EPOCH_DIGITS)), text:sub(EPOCH_DIGITS + 1)
  end
  local clock = redis.call("TIME")
  return tonumber(clock[1]) * 1000000 + tonumber(clock[2]), ""
end

local function epoch_write(key, epoch, ids)
  redis.call("SET", key, string.format("%016.0f", epoch) .. ids:sub(1, EPOCH_TAGS * TAG_ID), "PX", EPOCH_TTL)
end
