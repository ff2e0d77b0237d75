-- SPDX-License-Identifier: MIT
-- record_slide: fields of a record whose lifetime begins anew with each read.        writes, O(fields)
-- KEYS[1]  <prefix>:{<id>}:<name>.record   hash: the fields, _v (version), _c (created, ms); lives a ttl from use
-- ARGV[1]  age in ms at most, 0 any    ARGV[2]  ttl in ms (integer > 0); ARGV[3..] are the fields, at most 1,000
-- Returns  {1, version, created in ms, ms left, value or nil of each field}    {0} there is no record
-- Writes only when less than 90 % of the lifetime is left, so a record in steady use is written ten times in a ttl.
--- @include "clock"
--- @include "status"
--- @include "record"
--- @include "record_life"
local record = KEYS[1]
local max_age, ttl, args = record_whole(ARGV[1]), record_whole(ARGV[2]), ARGV

if not (max_age and ttl) or ttl == 0 or #args > 1002 then
  return redis.error_reply("ERR record_slide: ARGV is the age in ms >= 0, the ttl in ms > 0, and at most 1000 fields")
end
local own, problem = record_look(record, max_age, now)
if problem then return problem end
if not own then return {RECORD_GONE} end
local has, life = redis.call("PTTL", record), record_life(ttl, own.left)
if has < life * 0.9 or has > (own.left or has) then
  redis.call("PEXPIRE", record, string.format("%.0f", life))
  has = life
end
local answer = {RECORD_OK, own.version, own.created, has}
if #args > 2 then
  for i, value in ipairs(redis.call("HMGET", record, unpack(args, 3))) do answer[4 + i] = value end
end
return answer
