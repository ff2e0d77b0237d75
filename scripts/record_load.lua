-- SPDX-License-Identifier: MIT
-- record_load: fields of a record, and what it says of itself.                       reads, O(fields)
-- KEYS[1]  <prefix>:{<id>}:<name>.record   hash: the fields, _v (version), _c (created, ms); lives as its writers say
-- ARGV[1]  age in ms at most, 0 any; ARGV[2..] are the fields, at most 1,000
-- Returns  {1, version, created in ms, ms left or -1, value or nil of each field}    {0} there is no record
--- @include "clock"
--- @include "status"
--- @include "record"
local record = KEYS[1]
local max_age, args = record_whole(ARGV[1]), ARGV

if not max_age or #args > 1001 then
  return redis.error_reply("ERR record_load: ARGV is the age in ms, an integer >= 0, and at most 1000 fields")
end
local own, problem = record_look(record, max_age, now)
if problem then return problem end
if not own then return {RECORD_GONE} end
local has = redis.call("PTTL", record)
if own.left and (has < 0 or has > own.left) then has = own.left end
local answer = {RECORD_OK, own.version, own.created, has}
if #args > 1 then
  for i, value in ipairs(redis.call("HMGET", record, unpack(args, 2))) do answer[4 + i] = value end
end
return answer
