-- SPDX-License-Identifier: MIT
-- Each option has its effect, told by what server and pool show; options that wait for a later version say so.
-- What options_spec and set_spec show of names, ranges, `tls` and `credentials` is not repeated.

local redmoon = require "redmoon"
local helper = require "tests.lua.helper"

describe("the option", function()
  local server, watcher

  setup(function()
    server = assert(redmoon.embedded())
    watcher = helper.client() -- of another server
  end)
  before_each(function()
    local client <close> = assert(server:connect())
    assert(client:flushall())
  end)
  teardown(function()
    watcher:close()
    server:close()
  end)

  local function connect(options)
    return assert(server:connect(options))
  end

  -- Runs fn while the server is stopped: connections are accepted by the kernel, and nothing is answered.
  local function while_stopped(fn)
    assert(os.execute("kill -STOP " .. server.pid))
    local ok, why = pcall(fn)
    assert(os.execute("kill -CONT " .. server.pid))
    if not ok then error(why, 0) end
  end

  local function client_field(client, name)
    return client:client("INFO"):match("%f[%w]" .. name .. "=(%S*)")
  end

  describe("of the pool:", function()
    -- How many connections are kept of two that were out at once.
    local function kept_of_two(options)
      local client <close> = connect(options)
      assert(client:transaction("a", function()
        assert.equal("PONG", client:ping())
        assert.equal(1, client:stats().in_use)
      end))
      local stats = client:stats()
      assert.equal(2, stats.dials)
      assert.equal(2 - stats.idle, stats.closed.idle)
      return stats.idle
    end

    it("max_idle", function()
      assert.equal(2, kept_of_two {})
      assert.equal(1, kept_of_two { max_idle = 1 })
      assert.equal(0, kept_of_two { max_idle = 0 })
    end)

    -- The one idle connection goes by itself, for that reason.
    local function assert_reaped(reason, options)
      local reasons = {}
      local client <close> = connect(options)
      client:on("close", function(event) reasons[#reasons + 1] = event.reason end)
      assert.equal("PONG", client:ping())
      helper.eventually(watcher, "the connection is gone", function() return client:stats().total == 0 end)
      assert.equal(1, client:stats().closed[reason])
      assert.equal("PONG", client:ping()) -- the hook runs with a call
      assert.equal(2, client:stats().dials)
      assert.equal(reason, reasons[1])
    end

    it("max_idle_time", function()
      assert_reaped("idle", { max_idle_time = 0.03 })
    end)

    it("max_lifetime", function()
      assert_reaped("lifetime", { max_lifetime = 0.03 })
    end)

    it("min_idle", function()
      local client <close> = connect { min_idle = 2 }
      helper.eventually(watcher, "two connections are idle", function() return client:stats().idle == 2 end)
      assert.equal("PONG", client:ping())
      assert.equal(0, client:stats().misses)
    end)

    it("pool_size, where the caller itself holds all: POOL_DEADLOCK", function()
      local client <close> = connect { pool_size = 1, pool_timeout = 5 }
      assert(client:transaction("a", function(tx)
        local message, detail = helper.assert_failure("POOL_DEADLOCK", client:ping())
        assert.matches("size 1", message)
        assert.equal("not_sent", detail.outcome)
        assert.equal("pool", detail.phase)
        assert.is_false(detail.retryable)
        helper.assert_failure("POOL_DEADLOCK", client:transaction("b", function() error("called") end))
        helper.assert_failure("POOL_DEADLOCK", client:pipeline(function(p) p:ping() end))
        assert.equal("PONG", tx:ping())
      end))
      assert.equal("PONG", client:ping())
      assert.equal(1, client:stats().dials)
    end)

    it("pool_timeout, of a client and of a view: POOL_TIMEOUT", function()
      while_stopped(function()
        local client <close> = connect {
          pool_size = 1, min_idle = 1, pool_timeout = 0.02, connect_timeout = 20, timeout = 1, max_retries = 0,
        }
        -- From then on the only place is taken by a dial that does not end.
        helper.eventually(watcher, "the background dials", function() return client:stats().total == 1 end)
        local message, detail = helper.assert_failure("POOL_TIMEOUT", client:ping())
        assert.matches("within %d+ ms %(size 1: 0 in use, 0 idle, 1 being dialled", message)
        assert.equal("not_sent", detail.outcome)
        assert.equal("pool", detail.phase)
        assert.is_true(detail.retryable)
        local view <close> = client:with { pool_timeout = 0 }
        helper.assert_failure("POOL_TIMEOUT", view:ping())
        assert.equal(2, client:stats().timeouts)
      end)
    end)
  end)

  describe("of time:", function()
    local long = 20

    -- The one limit that is short ends the call.
    local function limits(name)
      local options = { max_retries = 0 }
      for _, other in ipairs { "connect_timeout", "read_timeout", "write_timeout", "timeout" } do
        options[other] = other == name and 0.03 or long
      end
      return options
    end

    it("connect_timeout", function()
      while_stopped(function()
        local client <close> = connect(limits("connect_timeout"))
        local message, detail = helper.assert_failure("TIMEOUT", client:ping())
        assert.matches("within 30 ms", message)
        assert.equal("handshake", detail.phase)
        assert.equal("not_sent", detail.outcome)
      end)
    end)

    for name, text in pairs { read_timeout = "did not answer within 30 ms", timeout = "deadline %(timeout 30 ms%)" } do
      it(name, function()
        local client <close> = connect(limits(name))
        assert.equal("PONG", client:ping())
        while_stopped(function()
          local message, detail = helper.assert_failure("TIMEOUT", client:incr("n"))
          assert.matches(text, message)
          assert.equal("receive", detail.phase)
          assert.equal("unknown", detail.outcome)
        end)
        assert.equal("PONG", client:ping())
        assert.equal(1, client:stats().closed.error)
      end)
    end

    it("write_timeout", function()
      local client <close> = connect(limits("write_timeout"))
      local large = ("x"):rep(1 << 24) -- more than a socket takes
      assert.equal("PONG", client:ping())
      while_stopped(function()
        local message, detail = helper.assert_failure("TIMEOUT", client:set("k", large))
        assert.matches("did not take the request within 30 ms", message)
        assert.equal("send", detail.phase)
      end)
    end)

    it("max_retries, min_backoff and max_backoff", function()
      local client <close> = assert(redmoon.connect("unix:///tmp/redmoon-no-such-socket", {
        max_retries = 5, min_backoff = 0.001, max_backoff = 0.002,
      }))
      local delays = {}
      client:on("retry", function(event) delays[#delays + 1] = event.delay end)
      local _, detail = helper.assert_failure("CONNECT", client:ping())
      assert.equal(6, detail.attempts)
      assert.equal(5, #delays)
      for _, delay in ipairs(delays) do assert.is_true(delay >= 0 and delay <= 0.002) end
    end)
  end)

  describe("of the connection:", function()
    it("client_name", function()
      local client <close> = connect { client_name = "a-worker" }
      assert.equal("a-worker", client_field(client, "name"))
      local without <close> = connect()
      assert.equal("", client_field(without, "name"))
    end)

    it("database", function()
      local client <close> = connect { database = 3 }
      client:set("k", "in 3")
      assert.equal("3", client_field(client, "db"))
      local zero <close> = connect()
      assert.is_nil((zero:get("k")))
      helper.assert_failure("ERR", connect({ database = 16 }):ping())
    end)

    it("protocol", function()
      for protocol = 2, 3 do
        local client <close> = connect { protocol = protocol }
        assert.equal(tostring(protocol), client_field(client, "resp"))
      end
      local default <close> = connect()
      assert.equal("3", client_field(default, "resp"))
    end)

    describe("username and password", function()
      local guarded

      setup(function()
        guarded = assert(redmoon.embedded())
        local admin <close> = assert(guarded:connect())
        assert(admin:acl("SETUSER", "app", "on", ">s3cret", "~app:*", "&*", "+@all"))
        assert(admin:acl("SETUSER", "default", ">fallback"))
      end)
      teardown(function()
        guarded:close()
      end)

      for protocol = 2, 3 do
        it("log in by RESP" .. protocol, function()
          local client <close> = assert(guarded:connect {
            username = "app", password = "s3cret", database = 2, protocol = protocol,
          })
          assert.equal("app", client:acl("WHOAMI"))
          assert.is_true(client:set("app:k", "v"))
          assert.equal("2", client_field(client, "db"))
          local message, detail = helper.assert_failure("NOPERM", client:get("other"))
          assert.is_nil(message:find("s3cret", 1, true))
          assert.equal("answered", detail.outcome)
        end)

        it("are those of the default user without a name, by RESP" .. protocol, function()
          local client <close> = assert(guarded:connect { password = "fallback", protocol = protocol })
          assert.equal("default", client:acl("WHOAMI"))
        end)

        it("that are wrong or missing are refused, by RESP" .. protocol, function()
          for code, options in pairs {
            WRONGPASS = { username = "app", password = "hunter2" },
            NOAUTH = {},
          } do
            options.protocol, options.max_retries = protocol, 0
            local client <close> = assert(guarded:connect(options))
            local message, detail = helper.assert_failure(code, client:set("app:x", 1))
            assert.is_nil(message:find("hunter2", 1, true))
            assert.equal("not_sent", detail.outcome)
          end
        end)
      end
    end)
  end)

  describe("of data:", function()
    it("max_reply_size", function()
      local client <close> = connect { max_reply_size = 2048 }
      local free <close> = connect()
      local small, large = ("x"):rep(1900), ("x"):rep(2048)
      client:set("small", small)
      client:set("large", large)
      assert.equal(small, client:get("small"))
      local message, detail = helper.assert_failure("TOO_LARGE", client:get("large"))
      assert.matches("2048 bytes %(max_reply_size%)", message)
      assert.equal("unknown", detail.outcome)
      for i = 1, 100 do client:rpush("list", ("y"):rep(30) .. i) end
      helper.assert_failure("TOO_LARGE", client:lrange("list", 0, -1))
      assert.equal(small, client:get("small")) -- on another connection: the rest of the reply is gone
      assert.equal(2, client:stats().closed.error)
      assert.equal(large, free:get("large"))
    end)

    it("default_ttl", function()
      local client <close> = connect { default_ttl = 50 }
      client:set("k", "v")
      assert.equal(50, client:ttl("k"))
    end)

    it("key_prefix", function()
      for prefix, options in pairs { redmoon = {}, ["my app"] = { key_prefix = "my app" } } do
        local client <close> = connect(options)
        client:flushall()
        local lock <close> = assert(client:lock("l"))
        local limiter = client:rate_limiter { algorithm = "sliding_log", limit = 1, window = 60, name = "r" }
        assert.is_true(limiter:allow("user").allowed)
        assert.is_true(lock:held())
        local permit <close> = assert(client:semaphore("l", { permits = 1 }):acquire(1, { request_id = "x" }))
        local writer <close> = assert(client:rwlock("l"):write())
        assert.is_true(permit:held() and client:fence_guard("l", writer.fence))
        local queue = assert(client:queue("l"))
        assert(queue:push(1, { request_id = "x" }))
        client:set("plain", 1) -- plain commands are sent as written
        local keys = client:keys("*")
        table.sort(keys)
        local want = { prefix .. ":{l}:fence", prefix .. ":{l}:lock", prefix .. ":{user}:r.log", "plain" }
        for _, part in ipairs { "semaphore", "semaphore.fence", "semaphore+req.x", "rwlock.writer", "rwlock.fence",
          "guard", "queue.jobs", "queue.state", "queue.ready", "queue.wake", "queue+req.x" } do
          want[#want + 1] = prefix .. ":{l}:" .. part
        end
        table.sort(want)
        assert.same(want, keys)
      end
    end)
  end)

  describe("that one server has no use for is refused:", function()
    local function assert_config(pattern, ...)
      local message, detail = helper.assert_failure("CONFIG", redmoon.connect(...))
      assert.matches(pattern, message)
      assert.equal("not_sent", detail.outcome)
    end

    it("read_from", function()
      for _, source in ipairs { "replica", "any", "nearest" } do
        local pattern = 'read_from "' .. source .. '" needs to know the replicas'
        assert_config(pattern, server.url, { read_from = source })
        assert_config(pattern, server.url .. "?read_from=" .. source)
      end
      assert_config("'read_from'.*\"nearest\"", server.url, { read_from = "secondary" })
      connect({ read_from = "primary" }):close()
    end)

  end)
end)

describe("client:publish", function()
  it("reaches who has subscribed, and says how many they are", function()
    local client <close> = assert(redmoon.connect(helper.tcp_url()))
    assert.equal(0, client:publish("news", "nobody hears"))
    local subscriber = assert(require("socket").connect("127.0.0.1", helper.tcp_url():match(":(%d+)/")))
    subscriber:settimeout(20)
    local function expect(...)
      for _, line in ipairs { ... } do assert.equal(line, subscriber:receive("*l")) end
    end
    subscriber:send("SUBSCRIBE news\r\n")
    expect("*3", "$9", "subscribe", "$4", "news", ":1")
    local payload = "a\0b\r\n"
    assert.equal(1, client:publish("news", payload))
    expect("*3", "$7", "message", "$4", "news", "$" .. #payload)
    assert.equal(payload .. "\r\n", subscriber:receive(#payload + 2))
    assert.equal(0, client:publish("other", "nobody hears"))
    subscriber:close()
  end)
end)
