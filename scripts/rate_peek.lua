-- SPDX-License-Identifier: MIT
-- rate_peek: what is free now, and whether one unit is.                         reads, O(1) (sliding_log: O(log n))
-- KEYS[1]  <prefix>:{<key>}:<limiter>.<part>   state: of the limit, as rate_allow keeps it
-- ARGV[1]  algorithm   ARGV[2]  limit   ARGV[3]  window (us)   ARGV[4]  extra: as those of one limit of rate_allow
-- Returns  {1, 0, 1, remaining, 0, reset_after_us} one unit is free
--          {0, 0, 1, 0, retry_after_us, reset_after_us} none is
-- Not marked `#!lua flags=no-writes`: Redis 6.2 takes that line for a syntax error.
--- @include "clock"
--- @include "status"
--- @include "rate_looks"
local key, limit = KEYS[1], {ARGV[1], ARGV[2], ARGV[3], ARGV[4]}

local look = rate_look(key, limit, 1, now)
if not look then
  return redis.error_reply("ERR rate_peek: ARGV is algorithm, limit > 0, window > 0, extra: integers")
end
if look.free > 0 then return {RATE_ALLOWED, 0, 1, look.free, 0, look.reset} end
return {RATE_DENIED, 0, 1, 0, look.retry(1), look.reset}
