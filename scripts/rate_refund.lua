-- SPDX-License-Identifier: MIT
-- rate_refund: give units back, as many as are in use at most.                    writes, O(1) (sliding_log: O(n))
-- KEYS[1]  <prefix>:{<key>}:<limiter>.<part>   state: of the limit, as rate_allow keeps it
-- KEYS[2]  <prefix>:{<key>}:<limiter>.<part>+req.<id>   string: the answer to this request, when it has an id
-- ARGV[1]  units (integer > 0)
-- ARGV[2]  algorithm   ARGV[3]  limit   ARGV[4]  window (us)   ARGV[5]  extra: as those of one limit of rate_allow
-- Returns  {1, given_back, 1, remaining, 0, reset_after_us}; given_back 0: nothing was in use, nothing written
--- @include "clock"
--- @include "status"
--- @include "request"
--- @include "rate_looks"
--- @include "rate_store"
local key, request = KEYS[1], KEYS[2]
local units, limit = tonumber(ARGV[1]), {ARGV[2], ARGV[3], ARGV[4], ARGV[5]}

if not units or units % 1 ~= 0 or units < 1 then
  return redis.error_reply("ERR rate_refund: ARGV[1] is units > 0: an integer")
end
local answered = request_answered(request)
if answered then return answered end
local look = rate_look(key, limit, 1, now)
if not look then
  return redis.error_reply("ERR rate_refund: ARGV is units, algorithm, limit > 0, window > 0, extra: integers")
end
local back = math.min(units, look.used)
if back > 0 then
  rate_store(key, look, -back)
  look = rate_look(key, limit, 1, now)
end
return request_keep(back > 0 and request, {RATE_ALLOWED, back, 1, look.free, 0, look.reset})
