-- rate_store: writes that `units` more are in use (negative: given back) by what the look at `key` said.  Returns the
-- reset then.  A log is pushed to and trimmed, by at most as many stamps as a call may add, so it stays <= its limit.
local RATE_LOG_MAX = 1000

local function rate_store_log(key, usage, units)
  local stamps, text = {}, string.format("%.0f", usage.stamp)
  for i = 1, units do stamps[i] = text end
  if units > 0 then redis.call("RPUSH", key, unpack(stamps)) end
  local trim = units > 0 and math.min(usage.expired, RATE_LOG_MAX) or usage.expired - units
  if trim > 0 then redis.call("LTRIM", key, trim, -1) end
end

local function rate_store(key, look, units)
  local text, reset = look.after(units)
  if reset <= 0 then
    redis.call("DEL", key)
    return 0
  end
  -- One ms more: the server counts expiry from before it answered TIME, in whole ms.
  local ttl = string.format("%.0f", math.ceil(reset / 1000) + 1)
  if text then
    redis.call("SET", key, text, "PX", ttl)
  else
    rate_store_log(key, look.usage, units)
    redis.call("PEXPIRE", key, ttl)
  end
  return reset
end
