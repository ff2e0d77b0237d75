-- lock: what a lock's hash says beyond its owner.
-- `lease`, cut to what is left of `max`: the most ms that a lock may be held, counted from `since` (us).
local function lock_lease(lease, since, max, now)
  if not max then return lease end
  local held = math.max(now - tonumber(since), 0)
  return math.min(lease, math.floor((tonumber(max) * 1000 - held) / 1000))
end

-- How many hold it: each hold has a field, beside owner, fence, since, and perhaps max and waits.  The last is there when
-- somebody waits, who is to be told of the release (core/src/engine/wakeups.h): whose turn it is (tickets), or "".
local function lock_holds(lock, max, waits)
  return redis.call("HLEN", lock) - (max and 4 or 3) - (waits and 1 or 0)
end
