-- rate_sliding_window: the count of this window and that of the one before, which weighs less the longer this one is:
-- previous * (window - elapsed) + current * window <= limit * window.  Windows start at each multiple of their length
-- since 1970 in UTC.  Text "start:current:previous".  Every product is limit * window at most: below 2^53.
function RATE_LOOKS.sliding_window(key, limit, window, _, now)
  local stored = rate_numbers(redis.call("GET", key))
  local start, current, previous = stored[1], stored[2] or 0, stored[3] or 0
  local at = math.max(now, start or 0)
  local from = at - at % window
  if start and start < from then
    previous, current = start == from - window and current or 0, 0
  end
  local weighed = math.ceil(previous * (from + window - at) / window)
  local function reset_of(this, before)
    return this > 0 and from + 2 * window - now or before > 0 and from + window - now or 0
  end
  -- When the window before `ends` weighs so little that `room` units are left beside its `count`.
  local function until_room(count, room, ends) return ends - math.floor(room * window / count) - now end
  return {
    free = math.max(limit - current - weighed, 0),
    used = current + previous,
    reset = reset_of(current, previous),
    retry = function(cost)
      if cost > limit then return -1 end
      if current + cost <= limit then return until_room(previous, limit - current - cost, from + window) end
      return until_room(current, limit - cost, from + 2 * window)
    end,
    after = function(units) -- what is given back is taken to be the oldest: that frees the least
      local before = math.max(previous + math.min(units, 0), 0)
      local this = math.max(current + previous + units - before, 0)
      return rate_text {from, this, before}, reset_of(this, before)
    end,
  }
end
