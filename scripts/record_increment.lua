-- SPDX-License-Identifier: MIT
-- record_increment: add to a number of a record that there is; a field that is missing counts as 0.     writes, O(1)
-- KEYS[1]  <prefix>:{<id>}:<name>.record   hash: the fields, _v (version), _c (created, ms); lives as ARGV[4] to [6] say
-- KEYS[2]  <prefix>:{<id>}:<name>.record+req.<request>   string: the answer to this request; only if it has an id
-- ARGV[1]  field    ARGV[2]  by, in decimal    ARGV[3]  exact: 1 for a 64-bit integer, 0 for a double
-- ARGV[4]  ttl in ms, 0 none    ARGV[5]  keep: 1 if only the first write sets it    ARGV[6]  age in ms at most, 0 any
-- Returns  {1, version, sum as text} written    {0} there is no record
--          {-2} the sum is out of range    {-3} the field holds no number; these write nothing
-- Doubles are added here: HINCRBYFLOAT rounds to 17 places behind the point, and makes 0 of 1e-20.
--- @include "clock"
--- @include "status"
--- @include "request"
--- @include "record"
--- @include "record_life"
local record, request = KEYS[1], KEYS[2]
local field, by, exact, ttl = ARGV[1], ARGV[2], ARGV[3] == "1", record_whole(ARGV[4])
local keep, max_age = ARGV[5] == "1", record_whole(ARGV[6])

local function double(text)
  return text:find("^[+-]?%d*%.?%d*[eE]?[+-]?%d*$") and tonumber(text) or nil
end

local function shortest(number)
  for digits = 15, 17 do
    local text = string.format("%." .. digits .. "g", number)
    if digits == 17 or tonumber(text) == number then return text end
  end
end

if not (ttl and max_age) or field:sub(1, 1) == "_" or not double(by) then
  return redis.error_reply("ERR record_increment: ARGV is a field without '_' first, a number, exact, ttl, keep, age")
end
local answered = request_answered(request)
if answered then return answered end
local own, problem = record_look(record, max_age, now)
if problem then return problem end
if not own then return {RECORD_GONE} end

if exact then
  local sum = redis.pcall("HINCRBY", record, field, by) -- the server checks before it writes
  if type(sum) == "table" and sum.err:find("overflow", 1, true) then return {RECORD_RANGE} end
  if type(sum) == "table" and sum.err:find("not an integer", 1, true) then return {RECORD_UNREADABLE} end
  if type(sum) == "table" then return sum end
else
  local before = double(redis.call("HGET", record, field) or "0")
  if not before then return {RECORD_UNREADABLE} end
  local sum = before + tonumber(by)
  if sum ~= sum or math.abs(sum) == math.huge then return {RECORD_RANGE} end
  redis.call("HSET", record, field, shortest(sum))
end
local after = record_next_version(own, now)
redis.call("HSET", record, "_v", after)
record_live(record, own, ttl, keep, max_age)
return request_keep(request, {RECORD_OK, tonumber(after), redis.call("HGET", record, field)})
