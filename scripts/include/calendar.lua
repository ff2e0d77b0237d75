-- calendar: when the minute, hour, day or month of UTC ends that a time is in.  Unix seconds.
local CALENDAR_LENGTH = {minute = 60, hour = 3600, day = 86400, month = 0}

-- Days of whole years that begin in March, as leap days then end a year (H. Hinnant, "chrono-Compatible Low-Level Date
-- Algorithms"); day 0 is the 1st of March of a year that 400 divides.
local function calendar_days(years)
  return 365 * years + math.floor(years / 4) - math.floor(years / 100) + math.floor(years / 400)
end

local function calendar_end(unit, second)
  local length = CALENDAR_LENGTH[unit]
  if length > 0 then return (math.floor(second / length) + 1) * length end
  local day = math.floor(second / 86400) + 719468 -- since the 1st of March of year 0
  local year = math.floor(day / 365.2425)
  while calendar_days(year) > day do year = year - 1 end
  while calendar_days(year + 1) <= day do year = year + 1 end
  local first = calendar_days(year)
  local month = math.floor((5 * (day - first) + 2) / 153) -- 0: March; five months are 153 days
  local next_first = month == 11 and calendar_days(year + 1) or first + math.floor((153 * (month + 1) + 2) / 5)
  return (next_first - 719468) * 86400
end
