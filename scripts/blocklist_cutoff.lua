-- SPDX-License-Identifier: MIT
-- blocklist_cutoff: revoke all tokens of a subject that were issued up to a moment.      writes, O(1)
-- KEYS[1]  <prefix>:{<subject>}:<list>.sub   hash: cut (ms), ver; lives as long as a token it speaks of is accepted
-- ARGV[1]  moment in ms since 1970 (integer; empty: now)
-- ARGV[2]  longest life of a token and its leeway, in ms (integer, 1 to 3155760600000)
-- Returns  {1, cutoff in force in ms, ms left}       {0, 0, 0} all tokens of then have expired
--          {-1, 0, 0} over 100 years away; the last two write nothing
-- An earlier moment than the one stored changes nothing: the cutoff never falls, and the lifetime is never shortened.
--- @include "clock"
--- @include "status"
--- @include "again"
local subject = KEYS[1]
local moment, life = ARGV[1], tonumber(ARGV[2])
local CENTURY = 3155760000000

local cutoff = moment == "" and math.floor(now / 1000) or tonumber(moment)
if not cutoff or cutoff % 1 ~= 0 or cutoff < 0 or not life or life % 1 ~= 0 or life < 1 or life > CENTURY + 600000 then
  return redis.error_reply("ERR blocklist_cutoff: ARGV are a moment (or nothing) and the longest life in ms, integers")
end
local stored = tonumber(redis.call("HGET", subject, "cut") or 0)
if not stored then return redis.error_reply("ERR blocklist_cutoff: KEYS[1] holds no cutoff, an integer") end
local ahead = cutoff - now / 1000
if ahead + life <= 0 then return {BLOCK_EXPIRED, 0, 0} end
if ahead > CENTURY then return {BLOCK_FAR, 0, 0} end

local left = redis.call("PTTL", subject)
local ttl = math.ceil(ahead + life) + 1
if cutoff > stored then redis.call("HSET", subject, "cut", string.format("%.0f", cutoff)) end
if cutoff > stored and ttl > left then
  redis.call("PEXPIRE", subject, string.format("%.0f", ttl))
  left = ttl
end
if cutoff <= stored then written_again(subject) end
return {BLOCK_REVOKED, math.max(cutoff, stored), left}
