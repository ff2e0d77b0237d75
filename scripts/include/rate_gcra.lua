-- rate_gcra: a bucket of `burst` units, of which `rate` come back in each `period` us (GCRA, in exact integers).
-- Text "used:last:period": a unit is `period` parts and each us gives `rate` parts back, so nothing is ever rounded.
function RATE_LOOKS.gcra(key, rate, period, burst, now)
  local stored = rate_numbers(redis.call("GET", key))
  local used, last, unit = stored[1] or 0, stored[2] or now, stored[3] or period
  local at = math.max(now, last)
  if unit ~= period then -- the limiter was changed: other parts, rounded up
    local rest = used % unit
    used = (used - rest) / unit * period + (rest > 0 and math.ceil(rest / unit * period) + 1 or 0)
    used = math.min(used, 9007199254740991)
  end
  -- Compared before it is multiplied: the product stays below 2^53.
  if at - last >= math.ceil(used / rate) then used = 0 else used = used - (at - last) * rate end
  local function reset_of(parts) return parts > 0 and math.ceil(parts / rate) + at - now or 0 end
  return {
    free = math.max(math.floor((burst * period - used) / period), 0),
    used = math.ceil(used / period),
    reset = reset_of(used),
    retry = function(cost)
      if cost > burst then return -1 end
      return math.ceil((used - (burst - cost) * period) / rate) + at - now
    end,
    after = function(units)
      local parts = math.max(used + units * period, 0)
      return rate_text {parts, at, period}, reset_of(parts)
    end,
  }
end
