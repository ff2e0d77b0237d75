-- rate_sliding_log: the log of include/log.lua as a limit.
--- @include "log"
function RATE_LOOKS.sliding_log(key, limit, window, _, now)
  local usage = log_usage(key, window, now)
  return {
    usage = usage,
    free = math.max(limit - usage.used, 0),
    used = usage.used,
    reset = usage.reset,
    retry = function(cost) return log_retry(key, usage, limit, window, cost, now) end,
    after = function(units)
      if units > 0 then return nil, usage.stamp + window - now end
      return nil, usage.used + units > 0 and usage.reset or 0
    end,
  }
end
