-- rate_fixed_window: a count that starts anew with each window.  A window starts with its first unit or, `aligned`, at
-- each multiple of its length since 1970 in UTC.  Text "start:used".
function RATE_LOOKS.fixed_window(key, limit, window, aligned, now)
  local stored = rate_numbers(redis.call("GET", key))
  local start, used = stored[1], stored[2] or 0
  local at = math.max(now, start or 0)
  if aligned == 1 then
    local from = at - at % window
    if start and start < from then used = 0 end
    start = from
  elseif not start or at >= start + window then
    start, used = at, 0
  end
  local left = start + window - now
  return {
    free = math.max(limit - used, 0),
    used = used,
    reset = used > 0 and left or 0,
    retry = function(cost) return cost > limit and -1 or left end,
    after = function(units)
      local count = math.max(used + units, 0)
      return rate_text {start, count}, count > 0 and left or 0
    end,
  }
end
