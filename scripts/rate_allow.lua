-- SPDX-License-Identifier: MIT
-- rate_allow: take units if they are free under every one of n limits.      writes, O(n) (sliding_log: O(cost + log n))
-- KEYS[1..n]  <prefix>:{<key>}:<limiter>.<part>   what was used, one for each limit; lives until all is free again
-- KEYS[n+1]   the key of the request's id (include/request.lua), when it has one
-- ARGV[1]  cost (integer > 0; with a sliding_log <= 1000)
-- ARGV[2]  partial: 1 grants what is free, up to the cost; 0 all or none
-- ARGV[3]  n; then for each limit: algorithm, limit, window (us), extra.  gcra: limit units come back in each window.
--          extra: gcra: burst; fixed_window: 1 aligned, 0 not; buckets: how many, >= 1; others: 0
-- Returns  {1, granted, i, remaining, 0, reset_after_us} taken; i: the limit with the least left
--          {0, 0, i, remaining, retry_after_us, reset_after_us} refused, nothing written; i: what is full longest
--          retry_after_us is -1 when the cost can never fit
--- @include "clock"
--- @include "status"
--- @include "request"
--- @include "rate_looks"
--- @include "rate_store"
local cost, partial, count = tonumber(ARGV[1]), ARGV[2] == "1", tonumber(ARGV[3])
local keys, args = KEYS, ARGV

local function refuse()
  return redis.error_reply("ERR rate_allow: ARGV is cost > 0, partial, n; algorithm, limit, window, extra: integers")
end
if not (cost and count) or cost % 1 ~= 0 or cost < 1 or count % 1 ~= 0 or count < 1
  or #args ~= 3 + 4 * count or #keys < count then
  return refuse()
end
local request = keys[count + 1]
local answered = request_answered(request)
if answered then return answered end

local looks, granted = {}, cost
for i = 1, count do
  local look = rate_look(keys[i], args, 4 * i, now)
  if not look or look.usage and cost > RATE_LOG_MAX then return refuse() end
  looks[i], granted = look, math.min(granted, look.free)
end
local need = partial and 1 or cost
if granted < need then
  local full, longest = 1, 0
  for i = 1, count do
    local retry = looks[i].free < need and looks[i].retry(need) or 0
    if longest >= 0 and (retry < 0 or retry > longest) then full, longest = i, retry end
  end
  return {RATE_DENIED, 0, full, looks[full].free, longest, looks[full].reset}
end

local least, resets = 1, {}
for i = 1, count do
  resets[i] = rate_store(keys[i], looks[i], granted)
  if looks[i].free < looks[least].free then least = i end
end
return request_keep(request, {RATE_ALLOWED, granted, least, looks[least].free - granted, 0, resets[least]})
