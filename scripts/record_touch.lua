-- SPDX-License-Identifier: MIT
-- record_touch: let the lifetime of a record begin anew; its fields and version stay.         writes, O(1)
-- KEYS[1]  <prefix>:{<id>}:<name>.record   hash: the fields, _v (version), _c (created, ms); lives as ARGV says
-- ARGV[1]  age in ms at most, 0 any    ARGV[2]  ttl in ms, 0 none: then nothing is written
-- Returns  {1, ms left or -1} there is a record    {0} there is none
--- @include "clock"
--- @include "status"
--- @include "record"
--- @include "record_life"
local record = KEYS[1]
local max_age, ttl = record_whole(ARGV[1]), record_whole(ARGV[2])

if not (max_age and ttl) then
  return redis.error_reply("ERR record_touch: ARGV is the age and the ttl in ms: integers >= 0")
end
local own, problem = record_look(record, max_age, now)
if problem then return problem end
if not own then return {RECORD_GONE} end
local has = redis.call("PTTL", record)
local life = ttl > 0 and record_life(ttl, own.left) or nil
if own.left and (has < 0 or has > own.left) then life = own.left end
if not life then return {RECORD_OK, has} end
redis.call("PEXPIRE", record, string.format("%.0f", life))
return {RECORD_OK, life}
