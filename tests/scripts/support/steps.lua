-- SPDX-License-Identifier: MIT
-- How many steps a model takes: what the spec says, on newer servers a quarter, but no fewer than `least`; or $STEPS.
return function(usual, least)
  local wanted = os.getenv "STEPS"
  if wanted then return assert(math.tointeger(tonumber(wanted)), "STEPS is not a whole number") end
  return os.getenv "REDMOON_TEST_SERVER" and math.max(usual // 4, least or 0) or usual
end
