-- SPDX-License-Identifier: MIT
-- cache_release: give the lease back after a load that failed; what is stored stays.            writes, O(1)
-- KEYS[1]  <prefix>:{<key>}:<name>.cache+lease   string: token of who loads it, or "failed"; lives for the lease or pause
-- KEYS[2]  <prefix>:{<key>}:<name>.cache+waits   string: somebody waits (include/waits.lua); taken away, and told
-- ARGV[1]  token                      ARGV[2]  pause in ms (integer, 0 to 86400000): so long nobody is given it
-- Returns  {1} given back    {-1} the lease is over, was voided, or is another's; nothing was written
--- @include "status"
local lease, waits = KEYS[1], KEYS[2]
local token, pause = ARGV[1], tonumber(ARGV[2])

if not pause or pause % 1 ~= 0 or pause < 0 or pause > 86400000 then
  return redis.error_reply("ERR cache_release: ARGV[2] is the pause, an integer from 0 to 86400000 ms")
end
if redis.call("GET", lease) ~= token then return {CACHE_LOST} end
if pause == 0 then
  redis.call("DEL", lease)
else
  redis.call("SET", lease, "failed", "PX", string.format("%.0f", pause))
end
if redis.call("DEL", waits) == 1 then redis.pcall("PUBLISH", waits, "") end -- with a pause they learn how long it is
return {CACHE_STORED}
