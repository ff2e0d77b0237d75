-- topic_put: writes a cursor (see topic_cursor).
local TOPIC_READERS = 1000 -- of a topic

local function topic_put(readers, name, epoch, seq, now, token)
  local place = epoch .. ":" .. string.format("%.0f", seq) .. ":" .. string.format("%.0f", math.floor(now / 1000))
  redis.call("HSET", readers, name, place .. ":" .. token)
end
