-- SPDX-License-Identifier: MIT
-- blocklist_revoke: revoke a token for the rest of its life; a second call never shortens it.   writes, O(1)
-- KEYS[1]  <prefix>:{<token>}:<list>.jti   string: the reason, or 1 for none; lives as long as the token is accepted
-- ARGV[1]  exp of the token in s since 1970 (integer)   ARGV[2]  leeway in ms (integer, 0 to 600000)
-- ARGV[3]  reason (a word, or 1)
-- Returns  {1, ms left} revoked            {2, ms left} kept: it was revoked for as long or longer already
--          {0, 0} the token has expired    {-1, 0} exp is over 100 years away; the last three change nothing
-- The lifetime has one ms more: the server counts it from a clock in whole ms, which is behind its TIME.
--- @include "clock"
--- @include "status"
--- @include "again"
local token = KEYS[1]
local exp, leeway, reason = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local CENTURY = 3155760000000000

if not exp or exp % 1 ~= 0 or exp < 0 or not leeway or leeway % 1 ~= 0 or leeway < 0 or leeway > 600000 then
  return redis.error_reply("ERR blocklist_revoke: ARGV[1] and ARGV[2] are exp in s and leeway in ms, integers")
end
local life = exp * 1000000 + leeway * 1000 - now
if life <= 0 then return {BLOCK_EXPIRED, 0} end
if life > CENTURY then return {BLOCK_FAR, 0} end

local ttl = math.ceil(life / 1000) + 1
local left = redis.call("PTTL", token)
if left >= ttl then
  written_again(token)
  return {BLOCK_KEPT, left}
end
redis.call("SET", token, reason, "PX", string.format("%.0f", ttl))
return {BLOCK_REVOKED, ttl}
