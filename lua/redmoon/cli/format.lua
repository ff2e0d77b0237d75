-- SPDX-License-Identifier: MIT
-- Numbers as people read them.

local M = {}

-- 1234567 -> "1,234,567"
function M.count(number)
  local digits = ("%.0f"):format(number)
  local sign, rest = digits:match("^(-?)(%d+)$")
  local grouped = rest:reverse():gsub("(%d%d%d)", "%1,"):reverse():gsub("^,", "")
  return sign .. grouped
end

local sizes = { "B", "KiB", "MiB", "GiB", "TiB", "PiB" }

-- 1536 -> "1.5 KiB"
function M.bytes(number)
  local unit = 1
  while number >= 1024 and unit < #sizes do
    number = number / 1024
    unit = unit + 1
  end
  return ((unit == 1 or number >= 100) and "%.0f %s" or "%.1f %s"):format(number, sizes[unit])
end

-- Of a latency: 0.00042 -> "0.420 ms"
function M.latency(seconds)
  if seconds < 0.00001 then return ("%.1f us"):format(seconds * 1e6) end
  if seconds < 0.001 then return ("%.3f ms"):format(seconds * 1000) end
  if seconds < 1 then return ("%.2f ms"):format(seconds * 1000) end
  return ("%.2f s"):format(seconds)
end

local spans = { { 86400, "d" }, { 3600, "h" }, { 60, "m" }, { 1, "s" } }

-- Of a lifetime: 3700 -> "1h 1m"; the two greatest units.
function M.duration(seconds)
  if seconds < 0 then return "-" .. M.duration(-seconds) end
  if seconds < 1 then return seconds == 0 and "0s" or ("%.0fms"):format(seconds * 1000) end
  if seconds < 60 then return (("%.1fs"):format(seconds):gsub("%.0s", "s")) end
  local parts = {}
  local rest = math.floor(seconds + 0.5)
  for _, span in ipairs(spans) do
    local n = rest // span[1]
    if n > 0 or #parts > 0 then
      parts[#parts + 1] = n > 0 and ("%d%s"):format(n, span[2]) or nil
      if n == 0 or #parts == 2 then break end
    end
    rest = rest % span[1]
  end
  return table.concat(parts, " ")
end

-- 0.1234 -> "12.3 %"
function M.share(part, whole)
  if whole == 0 then return "0 %" end
  local percent = 100 * part / whole
  return ((percent >= 99.95 or percent == 0) and "%.0f %%" or percent < 0.1 and "<0.1 %%" or "%.1f %%"):format(percent)
end

-- plural(3, "key") -> "3 keys"; `many` where an s does not do.
function M.plural(number, one, many)
  return ("%s %s"):format(M.count(number), number == 1 and one or many or one .. "s")
end

return M
