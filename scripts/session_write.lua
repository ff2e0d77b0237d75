-- SPDX-License-Identifier: MIT
-- session_write: begin a session, or change fields of one; its version rises, its lifetime is set.   writes, O(n + log m)
-- KEYS[1]  <prefix>:{<subject>}:<name>.session.<hash>   hash: the fields, _v, _c; lives as ARGV[4] to [6] say
-- KEYS[2]  <prefix>:{<subject>}:<name>.sessions         zset: hashes of ids, by their end in ms; lives longer
-- KEYS[3]  <prefix>:{<subject>}:<name>.session.<hash>+req.<request>   string: the answer; only if the request has an id
-- ARGV[1]  hash of the id    ARGV[2]  kind: 1 begins a session, 0 changes one that there is
-- ARGV[3]  version that it must have, -1 any; of a change
-- ARGV[4]  ttl in ms (> 0)   ARGV[5]  keep: 1 if only the first write sets it    ARGV[6]  age in ms at most, 0 any
-- ARGV[7]  count n of the fields that are set: ARGV[8..] are n fields and values, then the fields that are deleted
-- Returns  {1, version} written    {0} there is no such session    {-1, version} it has another; these write nothing
-- An id is never used for a second session: one that is there was begun by this very request, which is repeated.
--- @include "clock"
--- @include "status"
--- @include "request"
--- @include "record"
--- @include "record_life"
--- @include "record_fields"
--- @include "session"
local record, index, request = KEYS[1], KEYS[2], KEYS[3]
local member, begins, expected, ttl = ARGV[1], ARGV[2] == "1", tonumber(ARGV[3]), record_whole(ARGV[4])
local keep, max_age, count, args = ARGV[5] == "1", record_whole(ARGV[6]), record_whole(ARGV[7]), ARGV
local FIRST, SLACK = 8, 60000

local given, drop, last = nil, nil, nil
if expected and ttl and ttl > 0 and max_age and count then given, drop, last = record_fields(args, FIRST, count) end
if not given then
  return redis.error_reply("ERR session_write: ARGV is hash, kind, version, ttl > 0, keep, age, count, and fields")
end
local answered = request_answered(request)
if answered then return answered end
local own, problem = session_look(record, index, member, max_age, now)
if problem then return problem end
if begins and own then return {RECORD_OK, own.version} end
if not begins and not own then return {RECORD_GONE} end
if not begins and expected >= 0 and expected ~= own.version then return {RECORD_CONFLICT, own.version} end

local after = record_next_version(own, now)
record_put(record, own, after, args, FIRST, last, drop, now)
record_live(record, own, ttl, keep, max_age)
if begins then redis.call("ZREMRANGEBYSCORE", index, "-inf", string.format("%.0f", math.floor(now / 1000) - SLACK)) end
session_note(record, index, member, now)
return request_keep(request, {RECORD_OK, tonumber(after)})
