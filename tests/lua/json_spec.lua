-- SPDX-License-Identifier: MIT
-- redmoon.json: what goes out comes back the same, and everything else is refused.

local redmoon = require "redmoon"

local json, null = redmoon.json, redmoon.null
local secret = "s3cr3t-payload"

-- Same value, same types, same kind of table.
local function same(a, b)
  if type(a) ~= "table" then return math.type(a) == math.type(b) and type(a) == type(b) and a == b end
  if type(b) ~= "table" or json.is_array(a) ~= json.is_array(b) then return false end
  for k, v in pairs(a) do
    if not same(v, b[k]) then return false end
  end
  for k in pairs(b) do
    if a[k] == nil then return false end
  end
  return true
end

local function refuses(call, ...)
  local value, message, code, detail = call(...)
  assert.is_nil(value)
  assert.equal("CODEC", code)
  assert.equal("not_sent", detail.outcome)
  assert.is_nil(message:find(secret, 1, true), message)
  return message
end

describe("redmoon.json.encode", function()
  it("writes each kind of value", function()
    local cases = {
      { null, "null" }, { true, "true" }, { false, "false" }, { 0, "0" }, { -7, "-7" }, { "", '""' }, { "a", '"a"' },
      { math.maxinteger, "9223372036854775807" }, { math.mininteger, "-9223372036854775808" },
      { {}, "{}" }, { json.array(), "[]" }, { { 1, 2, 3 }, "[1,2,3]" }, { { a = 1 }, '{"a":1}' },
      { { { {} } }, "[[{}]]" }, { { a = json.array() }, '{"a":[]}' }, { json.array { null }, "[null]" },
    }
    for _, case in ipairs(cases) do assert.equal(case[2], assert(json.encode(case[1]))) end
  end)

  it("writes floats in the shortest form that reads back the same, and as floats", function()
    local cases = {
      { 1.0, "1.0" }, { -0.0, "-0.0" }, { 0.1, "0.1" }, { 1 / 3, "0.3333333333333333" }, { 1e300, "1e+300" },
      { 5e-324, "5e-324" }, { 2.0 ^ 53, "9007199254740992.0" }, { 2.0 ^ 63, "9.223372036854775808e+18" },
      { 0.1 + 0.2, "0.30000000000000004" },
    }
    for _, case in ipairs(cases) do
      local text = assert(json.encode(case[1]))
      if case[1] ~= 2.0 ^ 63 then assert.equal(case[2], text) end
      assert.equal("float", math.type(json.decode(text)))
      assert.equal(case[1], json.decode(text))
    end
    assert.equal(-math.huge, 1 / json.decode("-0.0"))
  end)

  it("escapes what has to be, and nothing else", function()
    assert.equal([["\"\\/\b\f\n\r\t\u0000\u001f]] .. '\127é😀"', json.encode("\"\\/\b\f\n\r\t\0\31\127é😀"))
  end)

  it("escapes each byte that has to be, wherever it stands, and passes each other one", function()
    local names = { ['"'] = '\\"', ["\\"] = "\\\\", ["\b"] = "\\b", ["\f"] = "\\f", ["\n"] = "\\n", ["\r"] = "\\r",
      ["\t"] = "\\t" }
    for byte = 0, 255 do
      local char = string.char(byte)
      local form = names[char] or byte < 32 and ("\\u%04x"):format(byte) or char
      for before = 0, 17 do
        for _, after in ipairs { 0, 1, 7, 9 } do
          local front, back = ("~ \127!#[]^z"):rep(2):sub(1, before), ("ab"):rep(5):sub(1, after)
          local text = json.encode(front .. char .. back)
          if byte < 128 then assert.equal('"' .. front .. form .. back .. '"', text) else assert.is_nil(text) end
        end
      end
    end
  end)

  it("refuses what JSON has no form for", function()
    for _, value in ipairs { 0 / 0, math.huge, -math.huge, print, io.stdout, coroutine.create(print) } do
      refuses(json.encode, value)
      refuses(json.encode, { a = { value } })
    end
    assert.matches("redmoon.null", refuses(json.encode, nil))
  end)

  it("refuses a table that is neither array nor object, and says which fault it has", function()
    assert.matches("both", refuses(json.encode, { 1, 2, [secret] = 1 }))
    assert.matches("both", refuses(json.encode, { [secret] = 1, [7] = 1 }))
    assert.matches("holes", refuses(json.encode, { 1, nil, 3 }))
    assert.matches("holes", refuses(json.encode, { [2] = 1 }))
    assert.matches("holes", refuses(json.encode, { [0] = 1 }))
    assert.matches("holes", refuses(json.encode, { 1, [-1] = 1 }))
    assert.matches("no integer", refuses(json.encode, { 1, [1.5] = 1 }))
    assert.matches("no string", refuses(json.encode, { [true] = 1 }))
    assert.matches("both", refuses(json.encode, json.array { a = 1 }))
    assert.matches("NUL", refuses(json.encode, { ["a\0b"] = 1 }))
    assert.matches("depth 3", refuses(json.encode, { a = { { 1, nil, 3 } } }))
  end)

  it("refuses strings that are not UTF-8", function()
    local bad = { "\xff", "\x80", "\xc0\x80", "\xc1\xbf", "\xe0\x80\x80", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xed\xbf\xbf",
      "\xf0\x80\x80\x80", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xc3",
      "\xe2\x82", "\xf0\x9f\x98", "\xe2(\xa1" }
    for _, bytes in ipairs(bad) do
      assert.matches('codec = "string"', refuses(json.encode, secret .. bytes))
      refuses(json.encode, { [bytes] = 1 })
      refuses(json.encode, bytes .. "aaaa")
      assert.matches("UTF%-8", refuses(json.decode, '"' .. bytes .. '"'))
    end
    for _, code in ipairs { 0x80, 0x7ff, 0x800, 0xd7ff, 0xe000, 0xffff, 0x10000, 0x10ffff } do
      local text = utf8.char(code)
      assert.equal(text, json.decode(assert(json.encode(text))))
    end
  end)

  it("stops at its limits of depth and size", function()
    local deep = {}
    for _ = 1, 63 do deep = { deep } end
    assert.is_string(json.encode(deep))
    assert.matches("max_depth", refuses(json.encode, { deep }))
    assert.is_string(json.encode({ deep }, { max_depth = 65 }))
    local loop = {}
    loop.loop = loop
    assert.matches("within itself", refuses(json.encode, loop))
    assert.equal('"1234"', json.encode("1234", { max_size = 6 }))
    assert.matches("max_size", refuses(json.encode, "12345", { max_size = 6 }))
    assert.matches("max_size", refuses(json.encode, ("x"):rep(1 << 24)))
    assert.has_error(function() json.encode(1, { max_dept = 1 }) end)
    assert.has_error(function() json.encode() end)
  end)
end)

describe("redmoon.json.decode", function()
  it("keeps arrays and objects apart", function()
    for _, text in ipairs { "[]", "{}", "[[],{}]", '{"a":[]}', "[1,2.0,null,true,false,\"\"]" } do
      assert.equal(text, json.encode(assert(json.decode(text))))
    end
    assert.is_true(json.is_array(json.decode("[]")))
    assert.is_false(json.is_array(json.decode("{}")))
    assert.equal(null, json.decode(" null "))
    assert.equal("\0é😀", json.decode([["\u0000\u00e9\ud83d\ude00"]]))
  end)

  it("keeps 64-bit integers, and refuses larger ones", function()
    assert.equal(math.maxinteger, json.decode("9223372036854775807"))
    assert.equal(math.mininteger, json.decode("-9223372036854775808"))
    assert.equal("integer", math.type(json.decode("9007199254740993")))
    assert.equal(9007199254740993, json.decode("9007199254740993"))
    for _, text in ipairs { "9223372036854775808", "-9223372036854775809", "1" .. ("0"):rep(100), "1e400", "[-1e999]" } do
      assert.matches("64 bits", refuses(json.decode, text))
    end
  end)

  it("refuses what is not JSON", function()
    local bad = { "", " ", "nul", "NaN", "Infinity", "01", "+1", ".5", "1.", "0x1", "'a'", '"', '"\\x"', '"a\nb"', "[",
      "[1,]", "[,1]", "{", '{"a"}', '{"a":}', '{"a":1,}', "{a:1}", "{1:1}", "]", "// x\n1", "[1] /* x */", '"\\ud800"',
      '"\\udc00"', '"\\ud800\\u0041"', "\xef\xbb\xbf1", "tru", "[true false]" }
    for _, text in ipairs(bad) do refuses(json.decode, text) end
    assert.matches("twice", refuses(json.decode, ('{"%s":1,"%s":2}'):format(secret, secret)))
    assert.matches("behind", refuses(json.decode, "1 2"))
    assert.matches("behind", refuses(json.decode, ('{} "%s"'):format(secret)))
    assert.matches("behind", refuses(json.decode, "{}\0"))
    assert.matches("NUL", refuses(json.decode, [[{"a\u0000b":1}]]))
    assert.matches("too early", refuses(json.decode, '["' .. secret))
    refuses(json.decode, '["' .. secret .. '" ' .. secret)
  end)

  it("stops at its limits before it makes anything", function()
    local deepest = ("["):rep(64) .. ("]"):rep(64)
    assert.equal(deepest, json.encode(assert(json.decode(deepest))))
    assert.matches("64 levels", refuses(json.decode, "[" .. deepest .. "]"))
    assert.is_table(json.decode("[" .. deepest .. "]", { max_depth = 65 }))
    assert.matches("64 levels", refuses(json.decode, ('{"a":'):rep(65)))
    assert.equal("[[[", json.decode('"[[["', { max_depth = 1 }))
    assert.equal('\\"[[', json.decode([=["\\\"[["]=], { max_depth = 1 }))
    assert.matches("1000 levels", refuses(json.decode, ("["):rep(1000000), { max_depth = 1000 }))
    assert.equal(1234, json.decode("1234", { max_size = 4 }))
    assert.matches("4 bytes", refuses(json.decode, "12345", { max_size = 4 }))
    refuses(json.decode, '"' .. ("x"):rep(1 << 24) .. '"')
  end)

  it("takes a string alone", function()
    for _, value in ipairs { 12, {}, true } do
      assert.has_error(function() json.decode(value) end)
    end
  end)
end)

describe("redmoon.json.array", function()
  it("marks a table, and only one that has no other metatable", function()
    local t = { 1 }
    assert.equal(t, json.array(t))
    assert.equal(t, json.array(t))
    assert.is_true(json.is_array(t))
    assert.is_false(json.is_array({ 1 }))
    assert.is_false(json.is_array("x"))
    assert.has_error(function() json.array(setmetatable({}, {})) end)
    assert.has_error(function() json.array("x") end)
  end)
end)

describe("redmoon.json", function()
  local random = math.random

  local function text()
    local out = {}
    for i = 1, random(0, 8) do
      local from = ({ { 0, 127 }, { 128, 0xd7ff }, { 0xe000, 0xffff }, { 0x10000, 0x10ffff } })[random(4)]
      out[i] = utf8.char(random(from[1], from[2]))
    end
    return table.concat(out)
  end

  local function float()
    while true do
      local x = string.unpack("d", string.pack("j", random(0)))
      if x == x and x ~= math.huge and x ~= -math.huge then return x end
    end
  end

  local function any(depth)
    local kind = random(depth > 0 and 9 or 7)
    if kind == 1 then return null end
    if kind == 2 then return random(2) == 1 end
    if kind == 3 then return random(0) >> random(0, 63) end
    if kind == 4 then return float() end
    if kind == 5 then return random(-1000, 1000) / 8 end
    if kind <= 7 then return text() end
    local t = kind == 8 and json.array() or {}
    for i = 1, random(0, 5) do t[kind == 8 and i or (text():gsub("%z", "0"))] = any(depth - 1) end
    return t
  end

  it("gives back each value as it was", function()
    math.randomseed(20)
    for _ = 1, 20000 do
      local value = any(4)
      local encoded = assert(json.encode(value))
      assert.is_true(same(value, (json.decode(encoded))), encoded)
    end
  end)

  it("stands any damage to a text", function()
    math.randomseed(21)
    local accepted = 0
    for _ = 1, tonumber(os.getenv("STEPS") or 30000) do
      local encoded = json.encode(any(4))
      local at = random(#encoded)
      local damaged = encoded:sub(1, at - 1) .. string.char(random(0, 255)) .. encoded:sub(at + random(0, 2))
      local value, message, code = json.decode(damaged)
      if value == nil then
        assert.equal("CODEC", code)
        assert.is_string(message)
      else
        accepted = accepted + 1
        assert.is_true(same(value, (json.decode(assert(json.encode(value))))))
      end
    end
    assert.is_true(accepted > 100)
  end)
end)
