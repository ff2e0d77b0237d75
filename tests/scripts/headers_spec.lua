-- SPDX-License-Identifier: MIT
-- Every server-side script says in its header what it is given and returns, what it costs and whether it writes.
local here = debug.getinfo(1, "S").source:match("^@(.*/)") or "./"
package.path = here .. "support/?.lua;" .. package.path
local scripts = require "scripts"

local function header_and_body(text)
  local lines, rest = {}, text
  while rest:sub(1, 2) == "--" and not rest:find("^%-%-%- @include") do
    local line
    line, rest = rest:match("^([^\n]*)\n(.*)$")
    lines[#lines + 1] = line
  end
  return table.concat(lines, "\n"), rest, lines
end

local WRITES = {}
for name in ("DEL HDEL HINCRBY HINCRBYFLOAT HSET HSETNX INCRBY LPOP LTRIM PERSIST PEXPIRE PUBLISH RENAME RPUSH SADD "
  .. "SET SREM UNLINK XACK XADD XAUTOCLAIM XCLAIM XDEL XGROUP ZADD ZPOPMIN ZREM ZREMRANGEBYRANK "
  .. "ZREMRANGEBYSCORE"):gmatch("%u+") do WRITES[name] = true end

describe("server-side scripts", function()
  local names = scripts.names()

  it("are found", function()
    assert.is_true(#names > 5)
  end)

  for _, name in ipairs(names) do
    local text = scripts.read("scripts/" .. name .. ".lua")
    local header, body, lines = header_and_body(text)

    it(name .. " names its licence, itself, its effect and its cost", function()
      assert.are.equal("-- SPDX-License-Identifier: MIT", lines[1])
      assert.are.equal("-- " .. name .. ": ", lines[2]:sub(1, #name + 5))
      local effect = lines[2]:match(" (%a+), O%(.+%)$")
      local writes = false
      for command in scripts.expand(name):gmatch('redis%.call%("(%u+)"') do writes = writes or WRITES[command] end
      assert.are.equal(writes and "writes" or "reads", effect)
      assert.is_truthy(header:find("\n%-%- Returns  {"))
    end)

    it(name .. " documents every key with its shape, and every argument, and no others", function()
      for _, list in ipairs {"KEYS", "ARGV"} do
        local used = {}
        for index in body:gmatch(list .. "%[(%d+)%][^ ]* ") do used[index] = true end
        for index in body:gmatch(list .. "%[(%d+)%]") do used[index] = true end
        for index in pairs(used) do
          local shape = list == "KEYS" and "  <prefix>:{<%a+>}:[<>%a.+]+ +%a+: " or "  %a+"
          local foreign = list == "KEYS" and "  <key> +any type: " or shape -- a key of the application's
          local at = list .. "%[" .. index .. "%]"
          assert.is_truthy(header:find(at .. shape) or header:find(at .. foreign), list .. index)
        end
        for index in header:gmatch(list .. "%[(%d+)%]  ") do assert.is_true(used[index], list .. index) end
      end
    end)

    it(name .. " touches KEYS and ARGV only where it binds them to names", function()
      for line in body:gmatch("[^\n]+") do
        if line:find("KEYS[", 1, true) or line:find("ARGV[", 1, true) then
          assert.is_truthy(line:find("^local [%a_, ]+ = ") or line:find("error_reply"), line)
        end
      end
    end)

    it(name .. " is short, and reads the clock once at most", function()
      local _, length = text:gsub("\n", "")
      assert.is_true(length <= 60)
      local _, reads = scripts.expand(name):gsub('"TIME"', "")
      assert.is_true(reads <= 1)
      assert.is_nil(scripts.expand(name):find("@include", 1, true))
    end)
  end
end)
