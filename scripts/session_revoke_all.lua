-- SPDX-License-Identifier: MIT
-- session_revoke_all: all sessions of a subject are no more, but for one perhaps.          writes, O(m)
-- KEYS[1]  <prefix>:{<subject>}:<name>.sessions   zset: hashes of ids, by their end in ms; lives longer
-- ARGV[1]  hash of the id whose session stays, or nothing
-- Returns  {1, how many ended}
-- What the index does not name is no session: so this is one step, whatever goes on beside it.  The hashes of the
-- sessions are read by nobody any more, and end with their lifetime.
--- @include "clock"
--- @include "status"
local index = KEYS[1]
local member = ARGV[1]

local count = redis.call("ZCOUNT", index, string.format("(%.0f", math.floor(now / 1000)), "+inf")
local ends, left = redis.call("ZSCORE", index, member), redis.call("PTTL", index)
redis.call("DEL", index)
if ends then
  redis.call("ZADD", index, ends, member)
  redis.call("PEXPIRE", index, string.format("%.0f", math.max(left, 1)))
  if tonumber(ends) * 1000 > now then count = count - 1 end
end
return {RECORD_OK, count}
