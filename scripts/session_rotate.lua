-- SPDX-License-Identifier: MIT
-- session_rotate: a session gets another id; fields, version, age and lifetime stay.        writes, O(log m)
-- KEYS[1]  <prefix>:{<subject>}:<name>.session.<hash>   hash: the session (as a record); lives as its writers say
-- KEYS[2]  <prefix>:{<subject>}:<name>.session.<hash>   hash: the same, under the new id's hash, when this is done
-- KEYS[3]  <prefix>:{<subject>}:<name>.sessions         zset: hashes of ids, by their end in ms; lives longer
-- ARGV[1]  hash of the old id    ARGV[2]  hash of the new one    ARGV[3]  age in ms at most, 0 any
-- Returns  {1} the new id is the session's, the old one is nobody's    {0} there is no such session
-- An id is never used twice: when the new one is there, this very request was done, and is repeated.
--- @include "clock"
--- @include "status"
--- @include "record"
--- @include "session"
local old, new, index = KEYS[1], KEYS[2], KEYS[3]
local old_member, new_member, max_age = ARGV[1], ARGV[2], record_whole(ARGV[3])

if not max_age or old_member == new_member then
  return redis.error_reply("ERR session_rotate: ARGV is two different hashes, and the age in ms >= 0")
end
if session_look(new, index, new_member, max_age, now) then return {RECORD_OK} end
local own, problem = session_look(old, index, old_member, max_age, now)
if problem then return problem end
if not own then return {RECORD_GONE} end
local ends = redis.call("ZSCORE", index, old_member)
redis.call("ZADD", index, ends, new_member)
redis.call("ZREM", index, old_member)
redis.call("RENAME", old, new)
return {RECORD_OK}
