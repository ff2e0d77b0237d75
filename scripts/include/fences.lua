-- fences: a counter that is also a clock: max(last + 1, server time in us).  When its key is lost (FLUSHALL, eviction,
-- promotion of a replica that lagged) the clock still puts the next fence above all before.
local FENCE_TTL = "2592000000" -- 30 days: it only has to outlive a clock that was set back

-- The next fence, nothing written yet; nil when the key holds no fence.
local function fence_next(key, now)
  local last = tonumber(redis.call("GET", key) or 0)
  if not last or last % 1 ~= 0 or last < 0 or last >= 9007199254740991 then return nil end
  return math.max(last + 1, now)
end

local function fence_keep(key, fence)
  redis.call("SET", key, string.format("%.0f", fence), "PX", FENCE_TTL)
end
