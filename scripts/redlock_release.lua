-- SPDX-License-Identifier: MIT
-- redlock_release: take one server's vote for a lock back; the fence stays.       writes, O(1)
-- KEYS[1]  <prefix>:{<name>}:redlock   hash: owner, fence, node; lives for the lease
-- KEYS[2]  <prefix>:{<name>}:redlock+void.<id>   string: the token gets this lock no more; lives as long as ARGV[2] says
-- ARGV[1]  token (binary)
-- ARGV[2]  ms (integer, 0 to 86400000): for so long a redlock_take that comes later is refused; 0: none is under way
-- Returns  {1} released     {0} held by another     {-1} nobody holds it; then KEYS[2] alone is written, if at all
--- @include "status"
local lock, void = KEYS[1], KEYS[2]
local token, bars = ARGV[1], tonumber(ARGV[2])

if not bars or bars % 1 ~= 0 or bars < 0 or bars > 86400000 then
  return redis.error_reply("ERR redlock_release: ARGV[2] is how long it bars, an integer from 0 to 86400000 ms")
end
local owner = redis.call("HGET", lock, "owner")
if bars > 0 then redis.call("SET", void, "1", "PX", string.format("%.0f", bars)) end
if not owner then return {REDLOCK_VOID} end
if owner ~= token then return {REDLOCK_HELD} end
redis.call("DEL", lock)
return {REDLOCK_OK}
