-- counter: what is counted under a key.  Without a calendar the value alone; in one "<value> <end of its period>".
-- {value =, ttl = ms, -1 without an end, -2 when there is no count; in a calendar ends = of the period (Unix s), and
-- left = ms until then}; or nil when the key holds something else.  A clock that was set back does not reopen a period.
local function counter_read(counter, mode, now)
  local stored = redis.call("GET", counter)
  if not CALENDAR_LENGTH[mode] then
    local value = int64_of(stored or "0")
    return value and {value = value, ttl = redis.call("PTTL", counter)}
  end
  local ends, value = calendar_end(mode, math.floor(now / 1000000)), nil
  if stored then
    local text, of = string.match(stored, "^(%S+) (%d+)$")
    value = int64_of(text)
    if not value then return nil end
    if tonumber(of) < ends then value = nil else ends = tonumber(of) end
  end
  local left = math.ceil((ends * 1000000 - now) / 1000)
  return {value = value or {0, 0}, ends = ends, left = left, ttl = value and left or -2}
end
