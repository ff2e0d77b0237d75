-- SPDX-License-Identifier: MIT
-- What the subcommands are made of: numbers, tables, bars, JSON, texts from a server.

local chart = require "redmoon.cli.chart"
local format = require "redmoon.cli.format"
local grid = require "redmoon.cli.grid"
local json = require "redmoon.cli.json"
local options = require "redmoon.cli.options"
local terminal = require "redmoon.cli.terminal"

describe("numbers", function()
  it("are grouped", function()
    for number, text in pairs { [0] = "0", [999] = "999", [1000] = "1,000", [123456] = "123,456",
      [-1234567] = "-1,234,567", [1e6 + 0.4] = "1,000,000" } do
      assert.equal(text, format.count(number))
    end
  end)

  it("are of bytes", function()
    for number, text in pairs { [0] = "0 B", [1023] = "1023 B", [1536] = "1.5 KiB", [1024 * 1024] = "1.0 MiB",
      [300 * 1024] = "300 KiB", [2 ^ 62] = "4096 PiB" } do
      assert.equal(text, format.bytes(number))
    end
  end)

  it("are of time", function()
    for number, text in pairs { [0] = "0s", [0.25] = "250ms", [1] = "1s", [59.94] = "59.9s", [60] = "1m", [3599.6] = "1h",
      [3660] = "1h 1m", [3605] = "1h", [86400 * 2 + 3600 * 5 + 59] = "2d 5h", [-90] = "-1m 30s" } do
      assert.equal(text, format.duration(number))
    end
    assert.equal("0.4 us", format.latency(0.0000004))
    assert.equal("0.013 ms", format.latency(0.000013))
    assert.equal("12.50 ms", format.latency(0.0125))
    assert.equal("1.50 s", format.latency(1.5))
  end)

  it("are shares", function()
    assert.equal("0 %", format.share(0, 0))
    assert.equal("<0.1 %", format.share(1, 1000000))
    assert.equal("33.3 %", format.share(1, 3))
    assert.equal("100 %", format.share(5, 5))
  end)

  it("have words", function()
    assert.equal("1 key", format.plural(1, "key"))
    assert.equal("0 keys", format.plural(0, "key"))
    assert.equal("2 processes", format.plural(2, "process", "processes"))
  end)
end)

describe("JSON", function()
  it("has sorted names, exact integers and arrays that may be empty", function()
    assert.equal('{\n  "a": [],\n  "b": {},\n  "c": [\n    1,\n    2.5\n  ],\n  "d": 9223372036854775807\n}',
      json.encode { d = math.maxinteger, c = { 1, 2.5 }, b = {}, a = json.array {} })
  end)

  it("is UTF-8 whatever the bytes", function()
    assert.equal('"\u{e4}\\n\\"\\\\\\u0001\\u007f"', json.encode "\u{e4}\n\"\\\1\127")
    assert.equal('"\\\\xff\\\\x00a"', json.encode "\xff\0a")
  end)

  it("knows no infinity", function()
    assert.equal("null", json.encode(math.huge))
    assert.equal("null", json.encode(0 / 0))
    assert.equal("null", json.encode(json.null))
    assert.equal("true", json.encode(true))
  end)
end)

describe("a text from a server", function()
  it("cannot move the cursor", function()
    local has_blocks = terminal.has_blocks
    finally(function() terminal.has_blocks = has_blocks end)
    for _, blocks in ipairs { true, false } do
      terminal.has_blocks = function() return blocks end
      local shown = terminal.safe("a\27[2Jb\r\n\127\0\xc2\x9b1m\xff")
      assert.is_nil(shown:find("[%c\127\x80-\xff]"), shown)
      assert.equal("a\\x1b[2Jb\\x0d\\x0a\\x7f\\x00\\xc2\\x9b1m\\xff", shown)
      assert.equal(blocks and "\u{e9}" or "\\xc3\\xa9", terminal.safe "\u{e9}")
      assert.equal(blocks and "\u{e9}\\xc2\\x9b" or "\\xc3\\xa9\\xc2\\x9b", terminal.safe "\u{e9}\u{9b}")
    end
  end)
end)

describe("a table", function()
  local columns = { { title = "prefix" }, { title = "keys", right = true } }

  it("is aligned", function()
    assert.same({ "prefix   keys", "a           1", "bcd     1,000" },
      grid.lines(columns, { { "a", "1" }, { "bcd", "1,000" } }))
  end)

  it("fits a terminal: the first column gives way", function()
    local rows = { { ("x"):rep(100), "12" }, { "y", "3" } }
    for _, line in ipairs(grid.lines(columns, rows, 40)) do assert.equal(40, terminal.columns(line)) end
    assert.equal(106, #grid.lines(columns, rows)[2])
    assert.equal(12 + 6, terminal.columns(grid.lines(columns, rows, 5)[2]))
  end)
end)

describe("a bar", function()
  local has_blocks = terminal.has_blocks
  teardown(function() terminal.has_blocks = has_blocks end)

  it("is of eighths where there are block characters", function()
    terminal.has_blocks = function() return true end
    assert.equal("", chart.bar(0, 10, 10))
    assert.equal("\u{258f}", chart.bar(1, 1000000, 10))
    assert.equal(("\u{2588}"):rep(5), chart.bar(5, 10, 10))
    assert.equal("\u{2588}\u{258c}", chart.bar(3, 20, 10))
    assert.equal(("\u{2588}"):rep(10), chart.bar(20, 10, 10))
    assert.equal("", chart.bar(0, 0, 10))
  end)

  it("is of # elsewhere", function()
    terminal.has_blocks = function() return false end
    assert.equal("#", chart.bar(1, 1000000, 10))
    assert.equal("#####", chart.bar(5, 10, 10))
    local rows = { { label = "a", value = 1, text = "1" }, { label = "long", value = 4, text = "4,000" } }
    local lines = chart.histogram(rows, 41)
    assert.same({ "a     #######" .. (" "):rep(21) .. "      1", "long  " .. ("#"):rep(28) .. "  4,000" }, lines)
  end)
end)

describe("lifetimes", function()
  it("below a second are one line", function()
    local rows = require("redmoon.cli.audit.text").histogram_rows { no_ttl = 7, ttl_histogram = {
      { from = 0.256, to = 0.512, keys = 2 }, { from = 0.512, to = 1.024, keys = 3 },
      { from = 1.024, to = 2.048, keys = 0 }, { from = 2.048, to = 4.096, keys = 1000 } } }
    local texts = {}
    for i, row in ipairs(rows) do texts[i] = row.label .. "=" .. row.text end
    assert.equal("less than 1s=5, 1s to 2s=0, 2s to 4.1s=1,000, no TTL=7", table.concat(texts, ", "))
  end)
end)

describe("what options take", function()
  it("is a duration", function()
    local convert = options.duration("--ttl", 1, 1000000)
    for text, seconds in pairs { ["90"] = 90, ["90s"] = 90, ["1.5m"] = 90, ["2h"] = 7200, ["7d"] = 604800,
      ["2500ms"] = 2.5 } do
      assert.equal(seconds, convert(text))
    end
    for _, text in ipairs { "", "x", "-1", "1w", "0", "1e3", "1000001", "1 s" } do
      local value, message = convert(text)
      assert.is_nil(value)
      assert.matches("^%-%-ttl: a duration such as 90s.* from 1s to 11d 13h expected, got '", message)
    end
  end)

  it("is a number within its range", function()
    assert.equal(5, options.integer("-n", 1, 5) "5")
    assert.equal(0.5, options.number("-n", 0, 1) "0.5")
    for _, text in ipairs { "6", "0", "1.0", "0x1", "", "nan", "1e1" } do
      assert.is_nil((options.integer("-n", 1, 5)(text)))
    end
    for _, text in ipairs { "1.1", "-0.1", "inf", "nan", "1e-1" } do assert.is_nil((options.number("-n", 0, 1)(text))) end
  end)
end)
