-- SPDX-License-Identifier: MIT
-- session_touch: let the lifetime of a session begin anew; its fields and version stay.       writes, O(log m)
-- KEYS[1]  <prefix>:{<subject>}:<name>.session.<hash>   hash: the fields, _v, _c (as a record); lives as ARGV says
-- KEYS[2]  <prefix>:{<subject>}:<name>.sessions         zset: hashes of ids, by their end in ms; lives longer
-- ARGV[1]  hash of the id    ARGV[2]  age in ms at most, 0 any    ARGV[3]  ttl in ms (integer > 0)
-- Returns  {1, ms left} it goes on    {0} there is no such session
--- @include "clock"
--- @include "status"
--- @include "record"
--- @include "record_life"
--- @include "session"
local record, index = KEYS[1], KEYS[2]
local member, max_age, ttl = ARGV[1], record_whole(ARGV[2]), record_whole(ARGV[3])

if not (max_age and ttl) or ttl == 0 then
  return redis.error_reply("ERR session_touch: ARGV is hash, age in ms >= 0, ttl in ms > 0")
end
local own, problem = session_look(record, index, member, max_age, now)
if problem then return problem end
if not own then return {RECORD_GONE} end
local life = record_life(ttl, own.left)
redis.call("PEXPIRE", record, string.format("%.0f", life))
session_note(record, index, member, now)
return {RECORD_OK, life}
