-- SPDX-License-Identifier: MIT
-- blocklist_bump: a new version of a subject; tokens of an older one are revoked.      writes, O(1)
-- KEYS[1]  <prefix>:{<subject>}:<list>.sub            hash: cut (ms), ver; lives as long as a token it speaks of
-- KEYS[2]  <prefix>:{<subject>}:<list>.sub+req.<id>   string: the answer to this request; absent: no request id
-- ARGV[1]  longest life of a token and its leeway, in ms (integer, 1 to 3155760600000)
-- Returns  {1, version, ms left}
-- The version is max(last + 1, server time in us): so it rises even when its key was lost or has expired, and a token
-- that was issued under an older version is never taken for a newer one.
--- @include "clock"
--- @include "status"
--- @include "again"
--- @include "request"
local subject, request = KEYS[1], KEYS[2]
local life = tonumber(ARGV[1])

if not life or life % 1 ~= 0 or life < 1 or life > 3155760600000 then
  return redis.error_reply("ERR blocklist_bump: ARGV[1] is the longest life of a token in ms, an integer")
end
local answer = request_answered(request)
if answer then
  written_again(request)
  return answer
end
local last = tonumber(redis.call("HGET", subject, "ver") or 0)
if not last or last % 1 ~= 0 or last >= 9007199254740991 then
  return redis.error_reply("ERR blocklist_bump: KEYS[1] holds no version, an integer below 2^53 - 1")
end

local version = math.max(last + 1, now)
local left = math.max(redis.call("PTTL", subject), life + 1)
redis.call("HSET", subject, "ver", string.format("%.0f", version))
redis.call("PEXPIRE", subject, string.format("%.0f", left))
return request_keep(request, {BLOCK_REVOKED, version, left})
