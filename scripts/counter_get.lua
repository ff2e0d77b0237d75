-- SPDX-License-Identifier: MIT
-- counter_get: what a key counts now.                                                reads, O(1)
-- KEYS[1]  <prefix>:{<key>}:<counter>.<kind>   string: as counter_increment keeps it
-- ARGV[1]  mode: "keep", "window", "sliding", or a period: "minute", "hour", "day", "month"
-- Returns  {1, value (text: 64 bits), "0", ms until the count ends, -1: never, -2: nothing is counted}
-- Not marked `#!lua flags=no-writes`: Redis 6.2 takes that line for a syntax error.
--- @include "clock"
--- @include "status"
--- @include "int64"
--- @include "calendar"
--- @include "counter"
local counter = KEYS[1]
local mode = ARGV[1]

if not CALENDAR_LENGTH[mode] and mode ~= "keep" and mode ~= "window" and mode ~= "sliding" then
  return redis.error_reply("ERR counter_get: ARGV[1] is a mode")
end
local count = counter_read(counter, mode, now)
if not count then return redis.error_reply("ERR counter_get: KEYS[1] holds no count") end
return {COUNT_OK, int64_text(count.value), "0", count.ttl}
