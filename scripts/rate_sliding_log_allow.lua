-- SPDX-License-Identifier: MIT
-- rate_sliding_log_allow: take units if they are free in the window that ends now.   writes, O(cost + log n)
-- KEYS[1]  <prefix>:{<key>}:<limiter>.log   list: stamps (us), oldest first; lives until the last leaves the window
-- ARGV[1]  limit (integer > 0)   ARGV[2]  window in us (integer > 0)   ARGV[3]  cost (integer, 1 to 1000)
-- Returns  {1, remaining, 0, reset_after_us} taken
--          {0, remaining, retry_after_us, reset_after_us} refused, nothing written
--          retry_after_us is -1 when the cost is above the limit: never
--- @include "clock"
--- @include "status"
--- @include "log"
local log = KEYS[1]
local limit, window, cost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local MAX_COST, MAX_TRIM = 1000, 1000 -- of one call; as a call trims as much as it may add, the list stays <= limit

if not (limit and window and cost) or limit % 1 ~= 0 or window % 1 ~= 0 or cost % 1 ~= 0 or limit < 1 or window < 1
  or cost < 1 or cost > MAX_COST then
  return redis.error_reply("ERR rate_sliding_log_allow: ARGV is limit > 0, window > 0, cost 1 to 1000: integers")
end
local usage = log_usage(log, window, now)
if usage.used + cost > limit then
  local retry = log_retry(log, usage, limit, window, cost, now)
  return {RATE_DENIED, math.max(limit - usage.used, 0), retry, usage.reset}
end

local stamps, text = {}, string.format("%.0f", usage.stamp)
for i = 1, cost do stamps[i] = text end
redis.call("RPUSH", log, unpack(stamps))
if usage.expired > 0 then
  redis.call("LTRIM", log, math.min(usage.expired, MAX_TRIM), -1)
end
local reset = usage.stamp + window - now
-- One ms more: the server counts expiry from before it answered TIME, in whole ms.
redis.call("PEXPIRE", log, string.format("%.0f", math.ceil(reset / 1000) + 1))
return {RATE_ALLOWED, limit - usage.used - cost, 0, reset}
