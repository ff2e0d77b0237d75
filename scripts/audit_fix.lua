-- SPDX-License-Identifier: MIT
-- audit_fix: give a key that lives for ever a lifetime.                              writes, O(1)
-- KEYS[1]  <key>  any type: the application's own, as SCAN gave it
-- ARGV[1]  ttl in ms (integer, 1 to 63244800000: twice 366 days)
-- Returns  {1, Unix ms at which it ends}    {0} it has a TTL, which stays    {-1} it is gone
--- @include "clock"
--- @include "status"
local key, ttl = KEYS[1], tonumber(ARGV[1])

if not ttl or ttl % 1 ~= 0 or ttl < 1 or ttl > 63244800000 then
  return redis.error_reply("ERR audit_fix: ARGV is the ttl in ms, 1 to 63244800000")
end
local has = redis.call("PTTL", key)
if has ~= -1 then return {has == -2 and AUDIT_GONE or AUDIT_KEPT} end
redis.call("PEXPIRE", key, string.format("%.0f", ttl))
return {AUDIT_DONE, math.floor(now / 1000) + ttl}
