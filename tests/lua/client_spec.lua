-- SPDX-License-Identifier: MIT
-- The client as an object: its life, statistics, metrics, hooks, credentials, failures.

local redmoon = require "redmoon"
local helper = require "tests.lua.helper"

describe("a client", function()
  it("closes as often as it is told to, and fails with CLOSED from then on", function()
    local client = helper.client()
    assert.is_true(client:close())
    assert.is_true(client:close())
    local message, detail = helper.assert_failure("CLOSED", client:get("k"))
    assert.matches("closed", message)
    assert.equal("not_sent", detail.outcome)
    helper.assert_failure("CLOSED", client:call("GET", "k"))
    helper.assert_failure("CLOSED", client:stats())
    helper.assert_failure("CLOSED", client:metrics())
    helper.assert_failure("CLOSED", client:with {})
    helper.assert_failure("CLOSED", client:on("command", print))
    helper.assert_failure("CLOSED", client:lock("l"))
    helper.assert_failure("CLOSED", client:run(redmoon.script("return 1")))
    helper.assert_failure("CLOSED", client:transaction(function() end))
    helper.assert_failure("CLOSED", client:counter("c"))
    helper.assert_failure("CLOSED", client:rate_limiter { algorithm = "sliding_log", limit = 1, window = 1 })
  end)

  it("closes at the end of a scope", function()
    local kept
    do
      local client <close> = helper.client()
      kept = client
    end
    helper.assert_failure("CLOSED", kept:ping())
  end)

  it("gives its connections back when it is collected", function()
    local watcher <close> = helper.client()
    for _ = 1, 5 do assert(helper.server():connect { client_name = "collected" }):ping() end
    assert.is_true(helper.connections(watcher, "collected") >= 5) -- in a cluster each has more than one
    collectgarbage()
    collectgarbage()
    helper.eventually(watcher, "the connections are gone", function()
      return helper.connections(watcher, "collected") == 0
    end)
  end)

  it("shows where it leads, never a secret", function()
    local client = assert(redmoon.connect("redis://me:hunter2@localhost:6390/4?timeout=3"))
    assert.equal("redmoon.client (redis://localhost:6390/4)", tostring(client))
    client:close()
    assert.equal("redmoon.client (closed)", tostring(client))
  end)

  it("hides its metatable", function()
    local client <close> = helper.client()
    assert.equal("redmoon", getmetatable(client))
  end)

  it("serves a coroutine", function()
    local client <close> = helper.client { loop = "blocking" }
    assert.equal("PONG", coroutine.wrap(function() return client:ping() end)())
  end)

  it("says not_sent when nothing listens", function()
    local client <close> = assert(redmoon.connect("unix:///tmp/redmoon-no-such-socket", { max_retries = 1 }))
    local message, detail = helper.assert_failure("CONNECT", client:get("k"))
    assert.equal("not_sent", detail.outcome)
    assert.is_true(detail.retryable)
    assert.equal("dial", detail.phase)
    assert.matches("redmoon%-no%-such%-socket", message)
  end)

  it("retries a read on a fresh connection when its own was closed", function()
    local client <close> = helper.client()
    client:set("k", "v")
    local killer <close> = assert(helper.server():connect())
    killer:client("KILL", "TYPE", "normal")
    assert.equal("v", client:get("k"))
    assert.equal("v", client:get("k"))
  end)

  helper.on_one_server(it)("counts in stats", function()
    local client <close> = assert(helper.server():connect())
    client:ping()
    client:ping()
    local stats = client:stats()
    assert.equal(1, stats.dials)
    assert.equal(1, stats.misses)
    assert.equal(1, stats.hits)
    assert.equal(1, stats.total)
    assert.equal(1, stats.idle)
    assert.equal(0, stats.in_use)
    assert.equal(0, stats.waiting)
    assert.equal(0, stats.timeouts)
    assert.equal(0, stats.wait_count)
    assert.equal("float", math.type(stats.wait_time))
    assert.same({ idle = 0, lifetime = 0, peer = 0, dirty = 0, error = 0, failover = 0 }, stats.closed)
  end)

  it("gives metrics as Prometheus text", function()
    local client <close> = helper.client()
    client:get("k")
    local text = client:metrics()
    assert.is_string(text)
    assert.matches("# TYPE redmoon_", text)
    assert.matches('command="GET"', text)
  end)
end)

describe("client:on", function()
  local client

  before_each(function()
    client = helper.client()
  end)
  after_each(function()
    client:close()
  end)

  it("tells of commands, by name and without arguments", function()
    local events = {}
    local hook = client:on("command", function(event) events[#events + 1] = event end)
    client:set("secret-key", "secret-value")
    client:get("k")
    client:call("NOSUCHCOMMAND")
    assert.equal(3, #events)
    assert.equal("command", events[1].kind)
    assert.equal("SET", events[1].command)
    assert.equal("GET", events[2].command)
    assert.is_true(events[1].duration > 0)
    assert.equal(1, events[1].attempt)
    assert.is_nil(events[1].error)
    assert.is_true(redmoon.is_error(events[3].error))
    for _, event in ipairs(events) do
      for _, value in pairs(event) do
        assert.is_nil(tostring(value):find("secret", 1, true))
      end
    end
    hook:close()
    client:get("k")
    assert.equal(3, #events)
    assert.is_true(hook:close())
  end)

  helper.on_one_server(it)("tells of connections", function()
    local fresh = assert(helper.server():connect())
    local connects = {}
    fresh:on("connect", function(event) connects[#connects + 1] = event end)
    fresh:ping()
    assert.equal(1, #connects)
    assert.matches("sock", connects[1].address)
    assert.is_nil(connects[1].error)
    local steps = connects[1].steps
    assert.is_true(steps.handshake > 0)
    assert.equal(0, steps.resolve + steps.tls)
    assert.is_true(steps.dial + steps.handshake <= connects[1].duration)
    fresh:close()
    local sealed <close> = assert(redmoon.connect(helper.tls_url()))
    sealed:on("connect", function(event) connects[2] = event end)
    sealed:ping()
    assert.is_true(connects[2].steps.tls > 0)
    local closes = {}
    client:on("close", function(event) closes[#closes + 1] = event.reason end)
    local killer <close> = assert(helper.server():connect())
    killer:client("KILL", "TYPE", "normal")
    client:ping()
    client:ping()
    assert.equal(1, #closes)
    assert.is_string(closes[1])
  end)

  it("tells of retries", function()
    local nowhere <close> = assert(redmoon.connect("unix:///tmp/redmoon-no-such-socket", {
      max_retries = 2, min_backoff = 0.001, max_backoff = 0.002,
    }))
    local retries = {}
    nowhere:on("retry", function(event) retries[#retries + 1] = event end)
    helper.assert_failure("CONNECT", nowhere:get("k"))
    assert.equal(2, #retries)
    assert.equal("CONNECT", retries[1].error.code)
  end)

  it("keeps the hook without a handle, and several of them", function()
    local count = 0
    for _ = 1, 3 do client:on("command", function() count = count + 1 end) end
    collectgarbage()
    collectgarbage()
    client:ping()
    assert.equal(3, count)
  end)

  it("does not disturb the call when the function raises", function()
    local hook = client:on("command", function() error("no") end)
    assert.equal("PONG", client:ping())
    assert.same({ dropped = 0, errors = 1, queued = 0 }, hook:stats())
  end)

  -- Functions of events are called where nothing can yield, so a client that they use is one that blocks.
  it("hands over the next event after one whose function raised", function()
    local client <close> = helper.client { loop = "blocking" } -- luacheck: ignore
    local count = 0
    local hook = client:on("command", function()
      count = count + 1
      if count == 1 then
        for _ = 1, 3 do client:ping() end
      end
      error("no")
    end)
    client:echo("x")
    assert.equal(4, count)
    assert.same({ dropped = 0, errors = 4, queued = 0 }, hook:stats())
  end)

  it("lets the function use the client", function()
    local client <close> = helper.client { loop = "blocking" } -- luacheck: ignore
    local depth = 0
    client:on("command", function(event)
      if event.command == "ECHO" then
        depth = depth + 1
        assert.equal("PONG", client:ping())
      end
    end)
    assert.equal("x", client:echo("x"))
    assert.equal(1, depth)
  end)

  it("drops events beyond its queue, and counts them", function()
    local client <close> = helper.client { loop = "blocking" } -- luacheck: ignore
    local seen = 0
    local hook
    hook = client:on("command", function()
      seen = seen + 1
      if seen == 1 then
        for _ = 1, 300 do client:ping() end
      end
    end)
    client:echo("x")
    assert.equal(257, seen)
    assert.equal(44, hook:stats().dropped)
  end)

  it("raises for unknown events and no function", function()
    helper.assert_raises("unknown event 'comand' %(did you mean 'command'%?%)", function()
      client:on("comand", print)
    end)
    helper.assert_raises("bad argument #2 to 'on' %(function expected, got nil%)", function()
      client:on("command", nil)
    end)
  end)

  it("ends with its client", function()
    local count = 0
    local hook = client:on("command", function() count = count + 1 end)
    local view <close> = client:with {}
    client:close()
    view:ping()
    assert.equal(0, count)
    assert.is_true(hook:close())
  end)
end)

describe("credentials", function()
  local server

  setup(function()
    server = assert(redmoon.embedded())
    local admin <close> = assert(server:connect())
    assert(admin:acl("SETUSER", "app", "on", ">s3cret", "~*", "&*", "+@all"))
    assert(admin:acl("SETUSER", "default", "off"))
  end)
  teardown(function()
    server:close()
  end)

  it("are asked at each new connection", function()
    local asked = 0
    local client <close> = assert(redmoon.connect(server.url, {
      credentials = function()
        asked = asked + 1
        return "app", "s3cret"
      end,
    }))
    assert.equal(0, asked)
    assert.equal("app", client:acl("WHOAMI"))
    assert.equal("app", client:acl("WHOAMI"))
    assert.equal(1, asked)
    client:client("KILL", "TYPE", "normal", "SKIPME", "no")
    assert.equal("app", client:acl("WHOAMI"))
    assert.equal(2, asked)
  end)

  it("may use other clients, and views share them", function()
    local vault <close> = helper.client { loop = "blocking" } -- the function is called where nothing can yield
    vault:set("password", "s3cret")
    local client <close> = assert(redmoon.connect(server.url, {
      credentials = function() return "app", vault:get("password") end,
    }))
    local view <close> = client:with { timeout = 3 }
    assert.equal("app", view:acl("WHOAMI"))
  end)

  it("that are wrong fail with the server's code, and are not shown", function()
    local client <close> = assert(redmoon.connect(server.url, {
      credentials = function() return "app", "hunter2" end, max_retries = 0,
    }))
    local message = helper.assert_failure("WRONGPASS", client:get("k"))
    assert.is_nil(message:find("hunter2", 1, true))
  end)

  it("that raise, yield or say nothing refuse the dial", function()
    for _, fn in ipairs {
      function() error("vault is sealed") end,
      function() return nil, nil end,
      function() return "app" end,
      function() return "app", 5 end,
      function() return "app", "a\0b" end,
      function() return "app", ("x"):rep(5000) end,
      function() coroutine.yield() end,
    } do
      local client <close> = assert(redmoon.connect(server.url, { credentials = fn, max_retries = 0 }))
      local value, _, code, detail = client:get("k")
      assert.is_nil(value)
      assert.is_string(code)
      assert.not_equal("WRONGPASS", code)
      assert.equal("not_sent", detail.outcome)
    end
  end)

  it("are remembered for connections that are dialled in the background", function()
    local asked = 0
    local client <close> = assert(redmoon.connect(server.url .. "?min_idle=3", {
      credentials = function()
        asked = asked + 1
        return "app", "s3cret"
      end,
    }))
    assert.equal(1, asked)
    local watcher <close> = helper.client()
    helper.eventually(watcher, "three connections are idle", function()
      return client:stats().idle == 3
    end)
    assert.equal("app", client:acl("WHOAMI"))
    assert.equal(1, asked)
    local message = helper.assert_failure("CONFIG", redmoon.connect(server.url, {
      min_idle = 1, credentials = function() error("sealed") end,
    }))
    assert.matches("credentials", message)
  end)

  it("go with the last object that needs them", function()
    local asked = 0
    local client = assert(redmoon.connect(server.url, {
      credentials = function()
        asked = asked + 1
        return "app", "s3cret"
      end,
    }))
    local lock = assert(client:lock("l"))
    client:client("KILL", "TYPE", "normal", "SKIPME", "no")
    client:close()
    client = nil -- luacheck: ignore 311
    collectgarbage()
    assert.is_true(lock:release())
    assert.is_true(asked >= 2)
    lock:close()
    collectgarbage()
  end)
end)
