-- SPDX-License-Identifier: MIT
-- audit_undo: take a lifetime that audit_fix gave away again.                        writes, O(1)
-- KEYS[1]  <key>  any type: the application's own
-- ARGV[1]  Unix ms at which it ends, as audit_fix answered (integer > 0)
-- Returns  {1} it lives for ever again    {0} it has none, or another one, which stays    {-1} it is gone
--- @include "clock"
--- @include "status"
local key, ends = KEYS[1], tonumber(ARGV[1])
local NEAR = 1000 -- ms that the server's clock may have been set by since

if not ends or ends % 1 ~= 0 or ends < 1 or ends > 9007199254740991 then
  return redis.error_reply("ERR audit_undo: ARGV is the end in Unix ms")
end
local has = redis.call("PTTL", key)
if has == -2 then return {AUDIT_GONE} end
if has < 0 or math.abs(math.floor(now / 1000) + has - ends) > NEAR then return {AUDIT_KEPT} end
redis.call("PERSIST", key)
return {AUDIT_DONE}
