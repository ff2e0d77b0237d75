-- SPDX-License-Identifier: MIT
-- rwlock_release: give a permit to write back that the caller still has.             writes, O(1)
-- KEYS[1]  <prefix>:{<name>}:rwlock.writer   hash: owner, fence, ends (us); lives as long as the lease
-- KEYS[2]  <prefix>:{<name>}:rwlock.waits    string: somebody waits (include/waits.lua); taken away, and told
-- ARGV[1]  token (binary)
-- Returns  {1} given back     {0} another writes     {-1} over or gone; the last two write nothing
--- @include "clock"
--- @include "status"
local writer, waits = KEYS[1], KEYS[2]
local token = ARGV[1]

local holder = redis.call("HMGET", writer, "owner", "ends")
if tonumber(holder[2] or 0) <= now then return {PERMIT_GONE} end
if holder[1] ~= token then return {PERMIT_BUSY} end
if redis.call("DEL", writer, waits) > 1 then redis.pcall("PUBLISH", waits, "") end
return {PERMIT_OK}
