-- SPDX-License-Identifier: MIT
-- cache_discard: delete what was read and could not be decoded, if it is still the same.        writes, O(1)
-- KEYS[1]  <prefix>:{<key>}:<name>.cache   string: the entry; lives as long as it may be served
-- ARGV[1]  its first 40 bytes, or all of what is shorter
-- Returns  {1} deleted    {-1} it is gone, or another entry is there; nothing was written
--- @include "status"
--- @include "cache"
local entry = KEYS[1]
local seen = ARGV[1]

local text = redis.call("GETRANGE", entry, 0, CACHE_HEADER - 1)
if text == "" or not cache_is(text, seen) then return {CACHE_LOST} end
redis.call("DEL", entry)
return {CACHE_STORED}
