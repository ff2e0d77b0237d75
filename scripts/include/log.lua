-- log: a list of stamps in microseconds, oldest first, one for each unit taken.
local function stamp_at(log, index)
  return tonumber(redis.call("LINDEX", log, index))
end

-- How many of the first stamps are at or before `cutoff`: gallops, then halves.  At least `low`, fewer than `high`.
local function count_until(log, len, cutoff)
  local low, high = 0, 1
  while high <= len and stamp_at(log, high - 1) <= cutoff do
    low, high = high, high * 2
  end
  high = math.min(high, len + 1)
  while high - low > 1 do
    local middle = math.floor((low + high) / 2)
    if stamp_at(log, middle - 1) <= cutoff then low = middle else high = middle end
  end
  return low
end

-- `stamp` is the time to count by: a clock that was set back must not reopen the window.
local function log_usage(log, window, now)
  local len = redis.call("LLEN", log)
  local last = len > 0 and stamp_at(log, -1) or 0
  local stamp = math.max(now, last)
  local expired = count_until(log, len, stamp - window)
  local reset = expired < len and last + window - now or 0
  return {len = len, used = len - expired, expired = expired, stamp = stamp, reset = reset}
end

-- Microseconds until `cost` units are free: until the stamp leaves that stands in their way.  -1: never.
local function log_retry(log, usage, limit, window, cost, now)
  if cost > limit then return -1 end
  return stamp_at(log, usage.len + cost - limit - 1) + window - now
end
