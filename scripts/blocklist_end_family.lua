-- SPDX-License-Identifier: MIT
-- blocklist_end_family: revoke a family of refresh tokens, whether or not it was begun.      writes, O(1)
-- KEYS[1]  <prefix>:{<family>}:<list>.fam   hash: cur and old (ids), or dead (why); lives as long as its last token
-- ARGV[1]  longest life of a token and its leeway, in ms (integer, 1 to 3155760600000)
-- Returns  {1, ms left} revoked     {2, ms left} kept: it was revoked for as long or longer already, nothing is changed
--- @include "status"
--- @include "again"
local family = KEYS[1]
local life = tonumber(ARGV[1])

if not life or life % 1 ~= 0 or life < 1 or life > 3155760600000 then
  return redis.error_reply("ERR blocklist_end_family: ARGV[1] is the longest life of a token in ms, an integer")
end
local dead, left = redis.call("HGET", family, "dead"), redis.call("PTTL", family)
if dead and left >= life then
  written_again(family)
  return {BLOCK_KEPT, left}
end

left = math.max(left, life + 1)
redis.call("DEL", family)
redis.call("HSET", family, "dead", "1")
redis.call("PEXPIRE", family, string.format("%.0f", left))
return {BLOCK_REVOKED, left}
