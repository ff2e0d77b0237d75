-- SPDX-License-Identifier: MIT
-- client:list_queue exchanges items with redis-py and node-redis, both ways.

local helper = require "tests.lua.helper"

local function runs(command) return (os.execute(command .. " >/dev/null 2>&1")) end

local python = runs("python3 -c 'import redis'") and "python3" or "/usr/bin/python3"
local peers = {
  { name = "redis-py", command = python .. " tests/peers/list_echo.py" },
  { name = "node-redis", command = "node tests/peers/list_echo.mjs" },
}

local items = { "", "a", "\0\r\n$3\r\nx", "é😀", ('"'):rep(70000) }
do
  local every = {}
  for byte = 0, 255 do every[byte + 1] = string.char(byte) end
  items[#items + 1] = table.concat(every)
end

for _, peer in ipairs(peers) do
  describe("a list queue and " .. peer.name, function()
    local client

    before_each(function() client = helper.client() end)
    after_each(function() client:close() end)

    -- What the peer pops of `to`, it pushes to `from`.
    local function echo(options, values)
      local to, from = assert(client:list_queue("work:{1}", options)), assert(client:list_queue("done", options))
      local path = helper.server().url:match("^unix://(/[^?]*)")
      -- A sanitizer that is loaded before Lua would tell of the interpreter's own leaks.
      local process = assert(io.popen(("env -u LD_PRELOAD %s '%s' 'work:{1}' done %d 2>&1"):format(
        peer.command, path, #values)))
      for _, value in ipairs(values) do assert(to:push(value)) end
      local echoed = {}
      for i = 1, #values do
        local value, why = from:pop(30)
        if value == nil then error(why or process:read("a")) end
        echoed[i] = value
      end
      assert.equal("", process:read("a"))
      assert.is_true(process:close())
      assert.equal(0, to:length())
      assert.equal(0, from:length())
      return echoed
    end

    it("hand each other every kind of bytes, in order", function()
      assert.same(items, echo(nil, items))
    end)

    it("hand each other JSON", function()
      local values = { { id = math.maxinteger, tags = { "a", 1.5 } }, "text", 7 }
      assert.same(values, echo({ codec = "json" }, values))
    end)
  end)
end
