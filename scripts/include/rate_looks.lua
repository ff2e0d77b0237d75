-- rate_looks: what one limit says at one instant.  RATE_LOOKS[algorithm](key, limit, window, extra, now) only reads:
--   free   units free now          used   units that a refund can give back
--   reset  us until all are free   retry(cost)  us until that many are; -1: never
--   after(units)  what to store once so many more are in use (negative: given back), and the reset then
-- A clock that was set back must not free anything: time never runs below what was stored.
local RATE_LOOKS = {}

-- The numbers of a stored text, "1:20:3".
local function rate_numbers(text)
  local list = {}
  for digits in string.gmatch(text or "", "[^:]+") do
    list[#list + 1] = tonumber(digits) or error("ERR this is not the state of a rate limiter")
  end
  return list
end

local function rate_text(list)
  for i = 1, #list do list[i] = string.format("%.0f", list[i]) end
  return table.concat(list, ":")
end

--- @include "rate_gcra"
--- @include "rate_fixed_window"
--- @include "rate_sliding_window"
--- @include "rate_buckets"
--- @include "rate_sliding_log"

-- The look at `key` by the four arguments from `place` on; nil if they make no sense.
local function rate_look(key, args, place, now)
  local look = RATE_LOOKS[args[place]]
  local limit, window, extra = tonumber(args[place + 1]), tonumber(args[place + 2]), tonumber(args[place + 3])
  if not (look and limit and window and extra) or limit % 1 ~= 0 or window % 1 ~= 0 or extra % 1 ~= 0 or limit < 1
    or window < 1 or extra < 0 then
    return nil
  end
  return look(key, limit, window, extra, now)
end
