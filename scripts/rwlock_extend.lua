-- SPDX-License-Identifier: MIT
-- rwlock_extend: prolong a permit to write that the caller still has; never shortens. writes, O(1)
-- KEYS[1]  <prefix>:{<name>}:rwlock.writer   hash: owner, fence, ends (us); lives as long as the lease
-- ARGV[1]  token (binary)   ARGV[2]  lease in ms from now (integer, 1 to 86400000)
-- Returns  {1, us left} extended     {0} another writes     {-1} over or gone; the last two write nothing
--- @include "clock"
--- @include "status"
local writer = KEYS[1]
local token, lease = ARGV[1], tonumber(ARGV[2])

if not lease or lease % 1 ~= 0 or lease < 1 or lease > 86400000 then
  return redis.error_reply("ERR rwlock_extend: ARGV[2] is the lease, an integer from 1 to 86400000 ms")
end
local holder = redis.call("HMGET", writer, "owner", "ends")
local ends = tonumber(holder[2] or 0)
if ends <= now then return {PERMIT_GONE} end
if holder[1] ~= token then return {PERMIT_BUSY} end
if ends < now + lease * 1000 then
  ends = now + lease * 1000
  redis.call("HSET", writer, "ends", string.format("%.0f", ends))
  redis.call("PEXPIRE", writer, string.format("%.0f", lease + 1))
end
return {PERMIT_OK, ends - now}
