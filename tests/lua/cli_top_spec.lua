-- SPDX-License-Identifier: MIT
-- redmoon top, live and as one look.

local cli = require "tests.lua.cli_process"
local helper = require "tests.lua.helper"
local objects = require "redmoon.cli.top.objects"

describe("redmoon top", function()
  local client
  local url = function() return helper.server().url end
  local quick = { "--interval", "0.05" }

  local function top(...) return cli.run { "top", "--url", url(), quick[1], quick[2], ... } end

  setup(function() client = helper.client() end)
  teardown(function() client:close() end)
  before_each(function() assert(client:flushall()) end)

  it("shows pools, commands and what patterns hold", function()
    local app <close> = assert(helper.server():connect { client_name = "shop" })
    assert(app:ping())
    local lock <close> = assert(client:lock("report", { ttl = 60 }))
    local other <close> = assert(client:lock("{odd}:name", { ttl = 60 }))
    local limiter = client:rate_limiter { algorithm = "gcra", limit = 5, window = 60, name = "api" }
    for i = 1, 3 do assert(limiter:allow("caller" .. i)) end
    local backend = assert(client:semaphore("backend", { permits = 3, ttl = 60 }))
    assert(backend:acquire(2))
    assert(client:set("redmoon:{other}:unknown", "x"))
    local queue = assert(client:queue("mails"))
    for i = 1, 3 do assert(queue:push("x", { group = i > 1 and "g" or nil })) end
    local job <close> = assert(queue:pop())
    assert(queue:push_many { { payload = 1 }, { payload = 2 }, { payload = 3 } })
    assert(queue:pause())
    local result = top()
    assert.equal(0, result.status, result.err)
    assert.equal("", result.err)
    assert.matches("\nmails +5 +0 +1 +0 +paused\n", result.out)
    assert.matches("\nshop +%S+ +1 +%d ", result.out)
    assert.matches("\nredmoon%-top +", result.out)
    assert.matches("\ninfo +%d+ ", result.out)
    assert.matches("\nlock +2\n", result.out)
    assert.matches("\nrate limit +api %(gcra%) +3\n", result.out)
    assert.matches("\nsemaphore +1\n", result.out)
    assert.is_nil(result.out:find("\27", 1, true))
    assert.is_nil(top("--pages", "0").out:find("rate limit", 1, true))
    assert.matches("no locks, limits or other objects of 'shop:'", top("--prefix", "shop").out)
    local of_url = cli.run { "top", "--url", url() .. "?key_prefix=my%20shop", "--interval", "0.05" }
    assert.matches("no locks, limits or other objects of 'my shop:'", of_url.out)
    assert.truthy(lock and other and job)
  end)

  it("prints JSON", function()
    local result = top("--json")
    assert.equal(0, result.status)
    assert.matches("^{\n.*\n}\n$", result.out)
    assert.matches('"name": "redmoon%-top"', result.out)
    assert.matches('"objects": %[%],\n  "objects_complete": true', result.out)
  end)

  it("goes without what it may not see", function()
    assert(client:acl("SETUSER", "few", "reset", "on", ">pw", "+ping", "+hello", "+info"))
    local result = cli.run { "top", "--url", (url():gsub("//", "//few:pw@")), "--interval", "0.05" }
    assert.equal(0, result.status, result.err)
    assert.matches("pools: NOPERM", result.out)
    assert.matches("keys: NOPERM", result.out)
    assert(client:acl("DELUSER", "few"))
  end)

  it("needs no more than its page says", function()
    assert(assert(client:queue("mails")):push("x"))
    local general, of_queues = cli.read("docs/cli.md"):match("needs `(%+info [^`]+)`, and for queues `([^`]+)`")
    local words = {}
    for word in (general .. " " .. of_queues):gmatch("%S+") do words[#words + 1] = word end
    assert(client:acl("SETUSER", "few", "reset", "on", ">pw", "~redmoon:*", "+ping", "+hello", table.unpack(words)))
    local result = cli.run { "top", "--url", (url():gsub("//", "//few:pw@")), "--interval", "0.05" }
    assert(client:acl("DELUSER", "few"))
    assert.equal(0, result.status, result.err)
    assert.is_nil(result.out:find("NOPERM", 1, true), result.out)
    assert.matches("\nmails +1 +0 +0 +0 ", result.out)
  end)

  it("draws on a screen of its own, and leaves it", function()
    local result = cli.run_in_terminal { "top", "--url", url(), "--count", "2", "--interval", "0.05" }
    assert.equal(0, result.status, result.out)
    assert.matches("^\27%[%?1049h\27%[%?25l", result.out)
    assert.matches("\27%[%?25h\27%[%?1049l$", result.out)
    assert.equal(2, select(2, result.out:gsub("\27%[H", "")))
  end)

  it("ends with Ctrl-C", function()
    assert(client:call("CONFIG", "RESETSTAT"))
    local keyboard, finish = cli.start_in_terminal { "top", "--url", url(), "--interval", "0.05" }
    helper.eventually(client, "three looks", function()
      return tonumber((client:info("commandstats") or ""):match("cmdstat_client|list:calls=(%d+)") or 0) >= 3
    end)
    keyboard:write("\3")
    local result = finish()
    assert.equal(0, result.status, result.out)
    assert.matches("\27%[%?25h\27%[%?1049l$", result.out)
  end)

  it("leaves its screen when the server goes", function()
    local server = assert(helper.embedded())
    local here = assert(server:connect())
    local keyboard, finish = cli.start_in_terminal { "top", "--url", server.url, "--interval", "0.05" }
    helper.eventually(client, "a look", function()
      return tonumber((here:info("commandstats") or ""):match("cmdstat_client|list:calls=(%d+)") or 0) >= 2
    end)
    here:close()
    server:close()
    local result = finish()
    assert.equal(2, result.status)
    assert.matches("\27%[%?25h\27%[%?1049l", result.out)
    assert.matches("redmoon: [^\n]+\r\n$", result.out)
    assert.truthy(keyboard)
  end)

  it("knows keys of every pattern by their names", function()
    local walk = objects.new(client, "p")
    for key, id in pairs {
      ["p:{x}:lock"] = "lock\0", ["p:~x{y}z:lock"] = "lock\0", ["p:{x}:lock+req.1"] = false,
      ["p:{x}:rl.gcra+req.a.log"] = false, ["p:{x}:fence"] = false,
      ["p:{x}:rl.sliding.60000"] = "rate limit\0rl (sliding_window)", ["p:{x}:a.b.log"] = "rate limit\0a.b (sliding_log)",
      ["p:{x}:rl.buckets.1000.10"] = "rate limit\0rl (buckets)", ["p:{x}:rl.fixed"] = "rate limit\0rl (fixed_window)",
      ["p:{x}:hits.count"] = "counter\0hits", ["p:{x}:hits.day"] = "counter\0hits", ["p:{x}:b.jti"] = "revoked token\0b",
      ["p:{x}:user.record"] = "record\0user", ["p:{x}:web.session.AbC"] = "session\0web", ["q:{x}:lock"] = false,
      ["p:{x}:rwlock.readers"] = "read-write lock\0", ["p:x"] = false,
    } do
      walk.counts = {}
      walk:note(key)
      assert.equal(id or nil, (next(walk.counts)), key)
    end
  end)
end)
