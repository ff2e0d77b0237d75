-- SPDX-License-Identifier: MIT
-- blocklist_rotate: take a refresh token for a new one; one that was used before revokes its family.    writes, O(1)
-- KEYS[1]  <prefix>:{<family>}:<list>.fam   hash: cur and old (ids), or dead (why); lives as long as its last token
-- ARGV[1]  id presented (empty: begin a family)   ARGV[2]  new id
-- ARGV[3]  life of the new token and its leeway in ms (integer, 1 to 3155760600000)
-- Returns  {1, ms left} rotated                                 {3, ms left} reused: the family is revoked by this call
--          {4, ms left} revoked before                          {5, ms left} a family to begin that is there already
--          {6, 0} gone: unknown, or it has expired; the last three write nothing
-- The pair of ids is the request's own id, as every rotation has a new one: repeated, it gets the same answer.
--- @include "status"
--- @include "again"
local family = KEYS[1]
local presented, new, life = ARGV[1], ARGV[2], tonumber(ARGV[3])

if not life or life % 1 ~= 0 or life < 1 or life > 3155760600000 or new == "" or new == presented then
  return redis.error_reply("ERR blocklist_rotate: ARGV are two different ids and a life in ms, an integer")
end
local state = redis.call("HMGET", family, "cur", "old", "dead")
local current, old, dead = state[1], state[2] or "", state[3]
local left = math.max(redis.call("PTTL", family), 0)
local repeated = dead == presented .. new or not dead and current == new and old == presented
if repeated then written_again(family) end
if dead then return {repeated and BLOCK_REUSED or BLOCK_DEAD, left} end
if not current and presented ~= "" then return {BLOCK_GONE, 0} end
if repeated then return {BLOCK_ROTATED, left} end
if current and presented == "" then return {BLOCK_TAKEN, left} end

left = math.max(left, life + 1)
local reused = current and current ~= presented
if reused then
  redis.call("DEL", family)
  redis.call("HSET", family, "dead", presented .. new)
else
  redis.call("HSET", family, "cur", new, "old", presented)
end
redis.call("PEXPIRE", family, string.format("%.0f", left))
return {reused and BLOCK_REUSED or BLOCK_ROTATED, left}
