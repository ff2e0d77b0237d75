-- SPDX-License-Identifier: MIT
-- session_load: fields of a session, whose lifetime may begin anew with each read.         writes, O(fields + log m)
-- KEYS[1]  <prefix>:{<subject>}:<name>.session.<hash>   hash: the fields, _v, _c (as a record); lives as its writers say
-- KEYS[2]  <prefix>:{<subject>}:<name>.sessions         zset: hashes of ids, by their end in ms; lives longer
-- ARGV[1]  hash of the id    ARGV[2]  age in ms at most, 0 any
-- ARGV[3]  ttl in ms, 0: nothing is written; ARGV[4..] are the fields, at most 1,000
-- Returns  {1, version, created in ms, ms left, value or nil of each field}    {0} there is no such session
-- Writes only when less than 90 % of the lifetime is left, so a session in steady use is written ten times in a ttl.
--- @include "clock"
--- @include "status"
--- @include "record"
--- @include "record_life"
--- @include "session"
local record, index = KEYS[1], KEYS[2]
local member, max_age, ttl, args = ARGV[1], record_whole(ARGV[2]), record_whole(ARGV[3]), ARGV

if not (max_age and ttl) or #args > 1003 then
  return redis.error_reply("ERR session_load: ARGV is hash, age and ttl in ms >= 0, and at most 1000 fields")
end
local own, problem = session_look(record, index, member, max_age, now)
if problem then return problem end
if not own then return {RECORD_GONE} end
local has, life = redis.call("PTTL", record), record_life(ttl, own.left)
if ttl > 0 and (has < life * 0.9 or has > (own.left or has)) then
  redis.call("PEXPIRE", record, string.format("%.0f", life))
  session_note(record, index, member, now)
  has = life
elseif own.left and has > own.left then
  has = own.left
end
local answer = {RECORD_OK, own.version, own.created, has}
if #args > 3 then
  for i, value in ipairs(redis.call("HMGET", record, unpack(args, 4))) do answer[4 + i] = value end
end
return answer
