-- SPDX-License-Identifier: MIT
-- Converters for argparse: what an option takes, and an error that names option, value and range.

local format = require "redmoon.cli.format"

local M = {}

local function refuse(name, accepted, text)
  return nil, ("%s: %s expected, got '%s'"):format(name, accepted, text)
end

function M.integer(name, min, max)
  return function(text)
    local value = text:find("^-?%d+$") and math.tointeger(tonumber(text))
    if value and value >= min and value <= max then return value end
    return refuse(name, ("an integer from %d to %d"):format(min, max), text)
  end
end

function M.number(name, min, max)
  return function(text)
    local value = text:find("^-?%d+%.?%d*$") and tonumber(text)
    if value and value >= min and value <= max then return value end
    return refuse(name, ("a number from %g to %g"):format(min, max), text)
  end
end

local units = { ms = 0.001, s = 1, m = 60, h = 3600, d = 86400 }

-- 90, 90s, 15m, 2h, 7d, 500ms: seconds
function M.duration(name, min, max)
  return function(text)
    local digits, unit = text:match("^(%d+%.?%d*)(%a*)$")
    local factor = units[unit == "" and "s" or unit]
    local value = digits and factor and tonumber(digits) * factor
    if value and value >= min and value <= max then return value end
    return refuse(name, ("a duration such as 90s, 15m, 2h or 7d, from %s to %s"):format(format.duration(min),
      format.duration(max)), text)
  end
end

-- A list "a,b,c" of known words.
function M.words(name, known)
  return function(text)
    local list = {}
    for word in text:gmatch("[^,]+") do
      local is_known = false
      for _, each in ipairs(known) do is_known = is_known or each == word end
      if not is_known then return refuse(name, "a list of " .. table.concat(known, ", "), word) end
      list[#list + 1] = word
    end
    return list
  end
end

return M
