-- int64: exact integers beyond 2^53: {high, low} is high * 10^10 + low, 0 <= low < 10^10; sums of 64-bit ones fit too.
local INT64_UNIT = 10000000000
local INT64_MAX, INT64_MIN = {922337203, 6854775807}, {-922337204, 3145224192}

local function int64_carry(high, low)
  local carry = math.floor(low / INT64_UNIT)
  return {high + carry, low - carry * INT64_UNIT}
end

local function int64_add(a, b) return int64_carry(a[1] + b[1], a[2] + b[2]) end
local function int64_minus(a) return int64_carry(-a[1], -a[2]) end
local function int64_less(a, b) return a[1] < b[1] or a[1] == b[1] and a[2] < b[2] end
local function int64_fits(a) return not (int64_less(INT64_MAX, a) or int64_less(a, INT64_MIN)) end

local function int64_text(a)
  if math.abs(a[1]) < 100000 then return string.format("%.0f", a[1] * INT64_UNIT + a[2]) end -- exact in a double
  if a[1] < 0 then return "-" .. int64_text(int64_minus(a)) end
  return string.format("%.0f%010.0f", a[1], a[2])
end

-- nil for what is no 64-bit integer as a server writes it.
local function int64_of(text)
  if text == "9223372036854775807" then return INT64_MAX end
  if text == "-9223372036854775808" then return INT64_MIN end
  if text ~= "0" and not string.find(text or "", "^%-?[1-9]%d*$") then return nil end
  if #text <= 15 then return int64_carry(0, tonumber(text)) end
  local minus = text:sub(1, 1) == "-"
  local a = {tonumber(text:sub(minus and 2 or 1, -11)), tonumber(text:sub(-10))}
  if minus then a = int64_minus(a) end
  return #text <= 20 and int64_fits(a) and a or nil
end
