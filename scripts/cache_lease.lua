-- SPDX-License-Identifier: MIT
-- cache_lease: an entry; unless it is fresh, also the lease to load it, if that is free.  writes, O(size of the entry)
-- KEYS[1]  <prefix>:{<key>}:<name>.cache         string: the entry; lives as long as it may be served
-- KEYS[2]  <prefix>:{<key>}:<name>.cache+lease   string: token of who loads it; lives for the lease
-- KEYS[3]  <prefix>:{<key>}:<name>.cache+waits   string: somebody waits (include/waits.lua); lives 10 s from the last ask
-- ARGV[1]  token, fresh for each request        ARGV[2]  lease in ms (integer, 1 to 86400000)
-- ARGV[3]  token of a request of this caller's whose answer was lost, or ""
-- ARGV[4]  the first 40 bytes of the entry that the caller has read, or ""
-- ARGV[5]  why: "load"; "early": take the lease though it is fresh, if it is still the one read; "reject": that one
--          cannot be decoded, so it is deleted
-- Returns  {1, entry, ms left} it is fresh
--          {2, entry, ms left, lease ms} it is not, and the lease was given    {4, false, 0, lease ms} none is there
--          {3, entry, ms left, lease ms left} another has the lease            {0, false, 0, lease ms left} none is there
--- @include "status"
--- @include "cache"
--- @include "waits"
local entry, lease, waits = KEYS[1], KEYS[2], KEYS[3]
local token, ms, lost, seen, why = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4], ARGV[5]

if token == "" or not ms or ms % 1 ~= 0 or ms < 1 or ms > 86400000
  or why ~= "load" and why ~= "early" and why ~= "reject" then
  return redis.error_reply("ERR cache_lease: ARGV is token, lease (an integer, 1 to 86400000 ms), token or nothing, "
    .. "40 bytes or nothing, and load, early or reject")
end
local text, left, fresh = cache_look(entry)
local trash = not text and left
if why == "reject" and text and cache_is(text, seen) then text, trash = nil, true end
if text and fresh and not (why == "early" and cache_is(text, seen)) then return {CACHE_FRESH, text, left} end
local holder = redis.call("GET", lease)
local free = not holder or holder == token or lost ~= "" and holder == lost

if trash then redis.call("DEL", entry) end
left = text and left or 0
if not free then
  if not text then redis.call("SET", waits, "1", "PX", WAITS_TTL) end -- who gets something does not wait
  return {text and CACHE_BUSY or CACHE_WAIT, text or false, left, redis.call("PTTL", lease)}
end
redis.call("SET", lease, token, "PX", string.format("%.0f", ms))
return {text and CACHE_REFRESH or CACHE_LOAD, text or false, left, ms}
