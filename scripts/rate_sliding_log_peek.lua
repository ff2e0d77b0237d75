-- SPDX-License-Identifier: MIT
-- rate_sliding_log_peek: what is free in the window that ends now, and whether one unit is.   reads, O(log n)
-- KEYS[1]  <prefix>:{<key>}:<limiter>.log   list: stamps (us), oldest first; lives until the last leaves the window
-- ARGV[1]  limit (integer > 0)   ARGV[2]  window in us (integer > 0)
-- Returns  {1, remaining, 0, reset_after_us} one unit is free
--          {0, 0, retry_after_us, reset_after_us} none is
-- Not marked `#!lua flags=no-writes`: Redis 6.2 takes that line for a syntax error.
--- @include "clock"
--- @include "status"
--- @include "log"
local log = KEYS[1]
local limit, window = tonumber(ARGV[1]), tonumber(ARGV[2])

if not (limit and window) or limit % 1 ~= 0 or window % 1 ~= 0 or limit < 1 or window < 1 then
  return redis.error_reply("ERR rate_sliding_log_peek: ARGV is limit > 0, window > 0: integers")
end
local usage = log_usage(log, window, now)
if usage.used < limit then return {RATE_ALLOWED, limit - usage.used, 0, usage.reset} end
return {RATE_DENIED, 0, log_retry(log, usage, limit, window, 1, now), usage.reset}
