-- SPDX-License-Identifier: MIT
-- docs/types/redmoon.d.lua and the module agree.

local redmoon = require "redmoon"
local helper = require "tests.lua.helper"

describe("the definitions for the language server", function()
  local text, client

  setup(function()
    local file = assert(io.open("docs/types/redmoon.d.lua"))
    text = file:read("a")
    file:close()
    client = helper.client()
  end)
  teardown(function()
    client:close()
  end)

  local function names_of(object)
    local names, pattern = {}, "\nfunction " .. object .. "[.:]([%w_]+)%("
    for name in text:gmatch(pattern) do names[name] = true end
    return names
  end

  it("are Lua", function()
    assert(load(text, "=redmoon.d.lua", "t", {}))
  end)

  it("know everything in the module, and nothing else", function()
    local declared = names_of("redmoon")
    for name, value in pairs(redmoon) do
      if type(value) == "function" then
        assert.is_true(declared[name], "not declared: " .. name)
      else
        assert.matches("%-%-%-@field " .. name .. " ", text)
      end
      declared[name] = nil
    end
    assert.is_nil(next(declared))
  end)

  it("know every method of the client that is not a command", function()
    local declared = names_of("client")
    for name in pairs(names_of("commands")) do declared[name] = true end
    for name in pairs(require("redmoon.core").client_methods) do
      local _, _, code = client:call("COMMAND", "DOCS", name)
      assert.is_nil(code)
      local is_command = next(client:call("COMMAND", "DOCS", name)) ~= nil
      assert.is_true(is_command or declared[name], "not declared: " .. name)
    end
    for name in pairs(declared) do assert.is_function(client[name]) end
  end)

  it("know the methods of all other objects, and only those", function()
    local objects = {
      cache = assert(client:cache { name = "c", ttl = 1 }),
      counter = assert(client:counter("c")),
      blocklist = assert(client:blocklist("b")),
      json = redmoon.json,
      list_queue = assert(client:list_queue("l")),
      lock = assert(client:lock("l")),
      queue = assert(client:queue("q")),
      rate_limiter = assert(client:rate_limiter { algorithm = "sliding_log", limit = 1, window = 1 }),
      records = client:records("r", { fields = { n = "integer" } }),
      scan = client:scan(),
      script = redmoon.script("return 1"),
      sessions = client:sessions("s", { fields = { n = "integer" }, ttl = 1, secret = ("k"):rep(16) }),
      rwlock = assert(client:rwlock("l")),
      stream_queue = assert(client:stream_queue("q")),
      semaphore = assert(client:semaphore("s", { permits = 1 })),
      subscription = assert(client:subscribe {}),
      topic = assert(client:topic("t", { durable = true })),
      hook = assert(client:on("command", function() end)),
      embedded = helper.server(),
    }
    objects.rate_result = objects.rate_limiter:peek("k")
    local second <close> = assert(redmoon.connect(helper.tcp_url()))
    objects.redlock = redmoon.redlock { client, second }
    objects.rate_limits = redmoon.rate_limits { objects.rate_limiter }
    assert(objects.queue:push(1))
    objects.job = assert(objects.queue:pop())
    objects.topic_reader = assert(objects.topic:subscribe())
    objects.topic_cursor = assert(objects.topic:reader("r"))
    objects.permit = assert(objects.semaphore:acquire())
    objects.stream_queue:push(1)
    objects.stream_job = assert(objects.stream_queue:pop())
    objects.hook:close()
    for class, object in pairs(objects) do
      local declared = names_of(class)
      assert.is_not_nil(next(declared), class)
      for name in pairs(declared) do assert.is_function(object[name], class .. ":" .. name) end
    end
  end)
end)
