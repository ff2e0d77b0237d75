-- SPDX-License-Identifier: MIT
-- cache_put: store what was loaded, if the lease is held still; or whatever goes on.  writes, O(size of the entry)
-- KEYS[1]  <prefix>:{<key>}:<name>.cache         string: the entry; lives for its hard TTL
-- KEYS[2]  <prefix>:{<key>}:<name>.cache+lease   string: token of who loads it; deleted
-- KEYS[3]  <prefix>:{<key>}:<name>.cache+waits   string: somebody waits (include/waits.lua); taken away, and told
-- ARGV[1]  token; or "": store it without a lease, and void that of who loads
-- ARGV[2]  the entry (binary)            ARGV[3]  its hard TTL in ms (integer, 0 to 9007199254740991)
--          with a TTL of 0 nothing is stored, and what is there is deleted
-- Returns  {1} done    {-1} the lease is over, was voided by a deletion, or is another's; nothing was written
--- @include "status"
local entry, lease, waits = KEYS[1], KEYS[2], KEYS[3]
local token, text, ttl = ARGV[1], ARGV[2], tonumber(ARGV[3])

if not ttl or ttl % 1 ~= 0 or ttl < 0 or ttl > 9007199254740991 then
  return redis.error_reply("ERR cache_put: ARGV[3] is the hard TTL, an integer from 0 to 2^53 - 1 ms")
end
if token ~= "" and redis.call("GET", lease) ~= token then return {CACHE_LOST} end
if ttl == 0 then
  redis.call("DEL", entry)
else
  redis.call("SET", entry, text, "PX", string.format("%.0f", ttl))
end
local had = token == "" and redis.call("EXISTS", lease) or 1
if redis.call("DEL", lease, waits) > had then redis.pcall("PUBLISH", waits, "") end
return {CACHE_STORED}
