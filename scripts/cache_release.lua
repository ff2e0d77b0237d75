-- SPDX-License-Identifier: MIT
-- cache_release: give the lease back after a load that failed; what is stored stays.            writes, O(1)
-- KEYS[1]  <prefix>:{<key>}:<name>.cache+lease   string: token of who loads it; lives for the lease
-- ARGV[1]  token
-- Returns  {1} given back    {-1} the lease is over, was voided, or is another's; nothing was written
--- @include "status"
local lease = KEYS[1]
local token = ARGV[1]

if redis.call("GET", lease) ~= token then return {CACHE_LOST} end
redis.call("DEL", lease)
return {CACHE_STORED}
