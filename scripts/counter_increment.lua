-- SPDX-License-Identifier: MIT
-- counter_increment: count some more, or fewer, between bounds.                      writes, O(1)
-- KEYS[1]  <prefix>:{<key>}:<counter>.<kind>   string: value, in a calendar "<value> <end of its period, Unix s>";
--          mode "keep": without a TTL, for what is counted for ever; else it ends with the window or the period
-- KEYS[2]  <prefix>:{<key>}:<counter>.<kind>+req.<id>   string: answer to the request <id>; absent when it has no id
-- ARGV[1]  by   ARGV[2]  lowest value   ARGV[3]  highest: 64-bit integers   ARGV[4]  bounds "clamp" or "refuse"
-- ARGV[5]  mode: "keep"; "window" (the first count sets the TTL, or one that finds none); "sliding" (each count sets
--          it); or a period: "minute", "hour", "day", "month"   ARGV[6]  TTL in ms (integer, 1 to 31622400000), else 0
-- Returns  {1, value, applied, ms left} all of `by` was counted    {2, ...} as much as the bounds let through
--          {0, value, "0", ms left} out of bounds: nothing is written, nor by a `by` of 0, which reads
--          Values are text: 64 bits.  ms left: -1 for ever, -2 nothing is counted.  Error OVERFLOW: nothing is written
--- @include "clock"
--- @include "status"
--- @include "request"
--- @include "int64"
--- @include "calendar"
--- @include "counter"
local counter, request = KEYS[1], KEYS[2]
local by, min, max, clamp = int64_of(ARGV[1]), int64_of(ARGV[2]), int64_of(ARGV[3]), ARGV[4] == "clamp"
local amount, mode, life = ARGV[1], ARGV[5], tonumber(ARGV[6])
local GRACE = 1000 -- ms that a key outlives its period; the end of that is told by the value, to the microsecond

local timed, period = mode == "window" or mode == "sliding", CALENDAR_LENGTH[mode]
if not (by and min and max and life) or int64_less(max, min) or not (timed or period or mode == "keep")
  or timed and (life % 1 ~= 0 or life < 1 or life > 31622400000) then
  return redis.error_reply("ERR counter_increment: ARGV is by, min <= max: 64-bit integers, clamp, mode, TTL in ms")
end
local answered = request_answered(request)
if answered then return answered end
local count = counter_read(counter, mode, now)
if not count then return redis.error_reply("ERR counter_increment: KEYS[1] holds no count") end
if amount == "0" then return {COUNT_OK, int64_text(count.value), "0", count.ttl} end

local sum = int64_add(count.value, by)
local low, high = int64_less(sum, min), int64_less(max, sum)
local target, applied = low and min or high and max or sum, amount
if low or high then
  local room = int64_add(target, int64_minus(count.value))
  local of_type = low and not int64_less(INT64_MIN, min) or high and not int64_less(max, INT64_MAX)
  if not clamp and of_type or clamp and not int64_fits(room) then
    return redis.error_reply("OVERFLOW counter_increment: the result is no 64-bit integer")
  end
  applied = clamp and int64_text(room) or "0"
  if applied == "0" then return {COUNT_REFUSED, int64_text(count.value), "0", count.ttl} end
end

local value, ttl = int64_text(target), count.ttl
if period then
  ttl = count.left
  redis.call("SET", counter, string.format("%s %.0f", value, count.ends), "PX", string.format("%.0f", ttl + GRACE))
elseif mode == "sliding" or timed and ttl < 0 then
  ttl = life
  redis.call("SET", counter, value, "PX", string.format("%.0f", life))
else
  ttl = math.max(ttl, -1)
  redis.call("SET", counter, value, "KEEPTTL")
end
return request_keep(request, {target == sum and COUNT_OK or COUNT_CLAMPED, value, applied, ttl})
