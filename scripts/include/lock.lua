-- lock: what a lock's hash says beyond its owner.
-- `lease`, cut to what is left of `max`: the most ms that a lock may be held, counted from `since` (us).
local function lock_lease(lease, since, max, now)
  if not max then return lease end
  local held = math.max(now - tonumber(since), 0)
  return math.min(lease, math.floor((tonumber(max) * 1000 - held) / 1000))
end

-- How many hold it: each hold has a field, beside owner, fence, since and perhaps max.
local function lock_holds(lock, max)
  return redis.call("HLEN", lock) - (max and 4 or 3)
end
