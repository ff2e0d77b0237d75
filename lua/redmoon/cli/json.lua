-- SPDX-License-Identifier: MIT
-- Results as JSON: keys sorted, integers exact, always valid UTF-8.

local M = {}

local list = {}

-- Marks a table as an array, so that an empty one is [].
function M.array(t) return setmetatable(t, list) end

M.null = setmetatable({}, { __name = "null" })

local escapes = { ['"'] = '\\"', ["\\"] = "\\\\", ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t" }

-- What is no UTF-8 is written as \xHH, as text: JSON has no bytes.
local function string_text(text)
  if not utf8.len(text) then
    text = text:gsub("[^\32-\126]", function(byte) return ("\\x%02x"):format(byte:byte()) end)
  end
  return '"' .. text:gsub('[%c"\\\127]', function(char)
    return escapes[char] or ("\\u%04x"):format(char:byte())
  end) .. '"'
end

local function number_text(number)
  if math.type(number) == "integer" then return ("%d"):format(number) end
  if number ~= number or number == math.huge or number == -math.huge then return "null" end
  if number == math.floor(number) and math.abs(number) < 2 ^ 53 then return ("%.0f"):format(number) end
  return ("%.14g"):format(number)
end

local encode

local function encode_array(value, indent)
  if #value == 0 then return "[]" end
  local inner = indent .. "  "
  local parts = {}
  for i, each in ipairs(value) do parts[i] = inner .. encode(each, inner) end
  return "[\n" .. table.concat(parts, ",\n") .. "\n" .. indent .. "]"
end

local function encode_object(value, indent)
  local names = {}
  for name in pairs(value) do names[#names + 1] = tostring(name) end
  if #names == 0 then return "{}" end
  table.sort(names)
  local inner = indent .. "  "
  local parts = {}
  for i, name in ipairs(names) do
    parts[i] = inner .. string_text(name) .. ": " .. encode(value[name], inner)
  end
  return "{\n" .. table.concat(parts, ",\n") .. "\n" .. indent .. "}"
end

function encode(value, indent)
  local kind = type(value)
  if kind == "string" then return string_text(value) end
  if kind == "number" then return number_text(value) end
  if kind == "boolean" then return tostring(value) end
  if kind ~= "table" or value == M.null then return "null" end
  if getmetatable(value) == list or #value > 0 then return encode_array(value, indent) end
  return encode_object(value, indent)
end

-- The value as text, without a newline at its end.
function M.encode(value) return encode(value, "") end

return M
