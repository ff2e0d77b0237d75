-- SPDX-License-Identifier: MIT
-- session_revoke: a session is no more.                                              writes, O(n + log m)
-- KEYS[1]  <prefix>:{<subject>}:<name>.session.<hash>   hash: the session (as a record); lives as its writers say
-- KEYS[2]  <prefix>:{<subject>}:<name>.sessions         zset: hashes of ids, by their end in ms; lives longer
-- ARGV[1]  hash of the id
-- Returns  {1} there was one    {0} there was none
--- @include "status"
local record, index = KEYS[1], KEYS[2]
local member = ARGV[1]

local named, there = redis.call("ZREM", index, member), redis.call("DEL", record)
return {named == 1 and there == 1 and RECORD_OK or RECORD_GONE}
