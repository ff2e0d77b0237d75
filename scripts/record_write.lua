-- SPDX-License-Identifier: MIT
-- record_write: replace a record or change fields of it; its version rises, its lifetime is set.     writes, O(n)
-- KEYS[1]  <prefix>:{<id>}:<name>.record   hash: the fields, _v (version), _c (created, ms); lives as ARGV[3] to [5] say
-- KEYS[2]  <prefix>:{<id>}:<name>.record+req.<request>   string: the answer to this request; only if it has an id
-- ARGV[1]  kind: 1 replaces all fields and creates a record, 0 changes those given of a record that there is
-- ARGV[2]  version that it must have; -1 any, 0 there must be none
-- ARGV[3]  ttl in ms, 0 none    ARGV[4]  keep: 1 if only the first write sets it    ARGV[5]  age in ms at most, 0 any
-- ARGV[6]  count n of the fields that are set: ARGV[7..] are n fields and values, then the fields that are deleted
-- Returns  {1, version} written    {0} there is no record    {-1, version} it has another, 0 none; these write nothing
-- Without ttl and age a record has no TTL: it is the caller's data, which lives until it is deleted.
--- @include "clock"
--- @include "status"
--- @include "request"
--- @include "record"
--- @include "record_life"
--- @include "record_fields"
local record, request = KEYS[1], KEYS[2]
local replace, expected, ttl, keep = ARGV[1] == "1", tonumber(ARGV[2]), record_whole(ARGV[3]), ARGV[4] == "1"
local max_age, count, args = record_whole(ARGV[5]), record_whole(ARGV[6]), ARGV
local FIRST = 7

local given, drop, last = nil, nil, nil
if expected and ttl and max_age and count then given, drop, last = record_fields(args, FIRST, count) end
if not given then
  return redis.error_reply("ERR record_write: ARGV is kind, version, ttl, keep, age, count, and fields without '_' first")
end
local answered = request_answered(request)
if answered then return answered end
local own, problem = record_look(record, max_age, now)
if problem then return problem end
local version = own and own.version or 0
if expected >= 0 and expected ~= version then return {RECORD_CONFLICT, version} end
if not own and not replace then return {RECORD_GONE} end

if replace then
  for _, field in ipairs(redis.call("HKEYS", record)) do
    if not given[field] and field ~= "_v" and field ~= "_c" then drop[#drop + 1] = field end
  end
end
local after = record_next_version(own, now)
record_put(record, own, after, args, FIRST, last, drop, now)
record_live(record, own, ttl, keep, max_age)
if replace and ttl == 0 and max_age == 0 then redis.call("PERSIST", record) end
return request_keep(request, {RECORD_OK, tonumber(after)})
