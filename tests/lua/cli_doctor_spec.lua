-- SPDX-License-Identifier: MIT
-- redmoon doctor against servers that are well, and such that are not.

local cli = require "tests.lua.cli_process"
local helper = require "tests.lua.helper"

-- What the doctor says of each thing: id -> list of {status, text}, and the result of the process.
local function examine(url, ...)
  local result = cli.run({ "doctor", "--url", url, ... })
  local found = {}
  local id
  for line in result.out:gmatch("[^\n]+") do
    local status, name, text = line:match("^(%l+) +(%a[%a ]-)  +(.*)$")
    if not status then status, name, text = line:match("^(%l+) +(output buffers) (.*)$") end
    if status then
      id = name
      found[id] = found[id] or {}
      table.insert(found[id], { status = status, text = text })
    elseif id and line:find("^ ") then
      local last = found[id][#found[id]]
      last.text = last.text .. " " .. line:match("^ *(.*)$")
    end
  end
  return found, result
end

local function assert_found(found, id, status, text)
  assert.is_table(found[id], "nothing about " .. id)
  assert.equal(status, found[id][1].status, found[id][1].text)
  assert.is_truthy(found[id][1].text:find(text, 1, true), found[id][1].text)
end

describe("redmoon doctor", function()
  local client
  local changed = {}

  -- Changes a setting until the end of the test.
  local function configure(name, value)
    changed[name] = changed[name] or client:config("GET", name)[name]
    assert(client:config("SET", name, value))
  end

  setup(function() client = helper.client() end)
  teardown(function() client:close() end)
  after_each(function()
    for name, value in pairs(changed) do assert(client:config("SET", name, value)) end
    changed = {}
  end)

  local url = function() return helper.server().url end

  it("finds a private server usable", function()
    local found, result = examine(url())
    assert.equal(0, result.status, result.out)
    assert.equal("", result.err)
    for _, id in ipairs { "connection", "round trip", "TLS", "login", "server", "eviction", "output buffers", "pools",
      "idle", "clock", "permissions" } do
      assert.is_table(found[id], id .. " in\n" .. result.out)
      assert.equal("ok", found[id][1].status, found[id][1].text)
    end
    assert_found(found, "connection", "ok", "login")
    assert_found(found, "permissions", "ok", "rate-limiter")
    assert_found(found, "memory", "warning", "no limit")
    assert.matches("%d+ ok, %d+ warnings, 0 failures", result.out)
  end)

  it("asks the sentinels of the URL whom they watch", function()
    local found, result = examine(helper.sentinel_url())
    assert.equal(1, result.status, result.out)
    assert_found(found, "connection", "ok", "login")
    local port = found.sentinels[1].text:match("the primary 'main' is 127%.0%.0%.1:(%d+), quorum 1")
    assert.is_truthy(port, found.sentinels[1].text)
    assert_found(found, "sentinels", "warning", "1 sentinel of the URL answer and know 1")
    assert_found(found, "sentinels", "warning", "with fewer than three none may be lost")
    assert_found(found, "replicas", "failure", "none")
    assert_found(found, "failover", "warning", "held to be down after 1m")
    assert_found(found, "failover", "warning", "min_replicas")
    local asked = examine(helper.sentinel_url(), "--min-replicas", "1")
    assert_found(asked, "failover", "ok", "held to be down after 1m")
  end)

  it("tells of sentinels that are silent, and that servers have none", function()
    local two = helper.sentinel_url():gsub("//", "//127.0.0.1:1,", 1)
    local found = examine(two)
    assert_found(found, "sentinels", "warning", "127.0.0.1:1: ")
    assert.is_nil(examine(url()).sentinels)
  end)

  it("makes warnings count with --strict", function()
    local _, result = examine(url(), "--strict")
    assert.equal(1, result.status)
  end)

  it("times each step of the dial", function()
    local found = examine(helper.tls_url())
    assert_found(found, "connection", "ok", "TLS")
    assert_found(found, "TLS", "ok", "chain and name verified")
    local unverified = helper.tls_url():gsub("%?.*", "?tls_verify=false")
    assert_found((examine(unverified)), "TLS", "failure", "anybody may be the server")
    assert_found((examine(helper.tcp_url():gsub("127%.0%.0%.1", "localhost"), "--uses", "lock")), "connection", "ok",
      "name")
  end)

  it("sees that precious keys may be evicted", function()
    configure("maxmemory-policy", "allkeys-lru")
    assert_found((examine(url())), "eviction", "warning", "without effect as long as there is no limit")
    configure("maxmemory", "100mb")
    local found, result = examine(url())
    assert_found(found, "eviction", "warning", "allkeys-lru")
    assert.equal(0, result.status)
    found, result = examine(url(), "--uses", "lock,records")
    assert_found(found, "eviction", "failure", "keys of these may go before their time: lock;")
    assert.equal(1, result.status)
    assert_found((examine(url(), "--uses", "records")), "eviction", "ok", "as a cache wants it")
  end)

  it("sees that memory is nearly full", function()
    local used = helper.info(client, "memory", "used_memory")
    configure("maxmemory", tostring(math.floor(used * 1.18)))
    assert_found((examine(url())), "memory", "warning", "it fills up")
    configure("maxmemory", tostring(math.floor(used * 1.02)))
    assert_found((examine(url())), "memory", "failure", "next to no room")
  end)

  it("calculates pools against maxclients", function()
    configure("maxclients", "500")
    assert_found((examine(url(), "--processes", "23")), "pools", "ok",
      "pool_size 20 x 23 processes = 460; maxclients 500")
    local found, result = examine(url(), "--processes", "24")
    assert_found(found, "pools", "failure", "at most 19 fit")
    assert.equal(1, result.status)
    assert_found((examine(url() .. "?pool_size=300", "--processes", "2")), "pools", "failure", "pool_size 300 x 2")
    assert_found((examine(url(), "--pool-size", "400")), "pools", "ok", "pool_size 400 x 1 process = 400")
  end)

  it("sees connections that the server closes under the pool", function()
    configure("timeout", "120")
    assert_found((examine(url())), "idle", "warning", "set max_idle_time below 120")
    configure("timeout", "3600")
    assert_found((examine(url())), "idle", "ok", "idle for 1h")
    configure("tcp-keepalive", "0")
    assert_found((examine(url())), "idle", "warning", "tcp-keepalive")
  end)

  it("tells what a crash costs", function()
    assert_found((examine(url())), "persistence", "warning", "a restart loses everything")
    local _, result = examine(url(), "--uses", "sessions")
    assert.equal(1, result.status)
    assert_found((examine(url(), "--uses", "lock")), "persistence", "ok", "fit for a cache")
    assert_found((examine(url(), "--uses", "queue")), "persistence", "failure", "it matters to queue")
    configure("save", "3600 1000000")
    local found = examine(url(), "--uses", "queue")
    assert_found(found, "persistence", "warning", "snapshots only")
    configure("save", "")
    configure("appendonly", "yes")
    configure("appendfsync", "always")
    assert_found((examine(url())), "persistence", "ok", "nothing that was acknowledged")
    configure("appendfsync", "no")
    assert_found((examine(url())), "persistence", "warning", "half a minute")
  end)

  it("sees that writes are refused for want of replicas", function()
    assert_found((examine(url())), "replication", "warning", "0 replicas")
    assert_found((examine(url(), "--uses", "rate-limiter")), "replication", "ok", "primary")
    assert_found((examine(url(), "--min-replicas", "1")), "replication", "failure", "min_replicas = 1 cannot be had")
    configure("min-replicas-to-write", "1")
    assert_found((examine(url())), "replication", "failure", "writes are refused")
  end)

  it("tells a replica from a primary", function()
    local replica <close> = assert(helper.embedded { "--replicaof", "127.0.0.1", "1" })
    local found, result = examine(replica.url)
    assert_found(found, "replication", "failure", "writes answer READONLY")
    assert.equal(1, result.status)
  end)

  it("names a slow command, but not its arguments", function()
    configure("slowlog-log-slower-than", "0")
    assert(client:slowlog("RESET"))
    assert(client:set("a-secret-name", "x"))
    local found, result = examine(url())
    assert_found(found, "slow log", "ok", "the slowest is")
    assert.is_nil(result.out:find("secret", 1, true))
    configure("slowlog-log-slower-than", "100000")
    assert(client:slowlog("RESET"))
    assert(client:call("DEBUG", "SLEEP", "0.12"))
    assert_found((examine(url())), "slow log", "warning", "the slowest is DEBUG")
    assert(client:slowlog("RESET"))
  end)

  it("watches latency where the server does", function()
    configure("latency-monitor-threshold", "100")
    assert(client:latency("RESET"))
    assert_found((examine(url())), "latency", "ok", "nothing took 100 ms")
    assert(client:call("DEBUG", "SLEEP", "0.12"))
    assert_found((examine(url())), "latency", "warning", "the longest was command")
    assert(client:latency("RESET"))
  end)

  it("sees buffers that may grow without end", function()
    configure("client-output-buffer-limit", "pubsub 0 0 0")
    assert_found((examine(url())), "output buffers", "warning", "those of pubsub clients may grow without end")
    configure("client-output-buffer-limit", "pubsub 33554432 8388608 60")
    configure("client-output-buffer-limit", "slave 0 0 0")
    assert_found((examine(url())), "output buffers", "warning", "those of replica clients may grow without end")
  end)

  describe("permissions", function()
    local function user(name, ...)
      assert(client:acl("SETUSER", name, "reset", "on", ">pw", ...))
      finally(function() assert(client:acl("DELUSER", name)) end)
      return (url():gsub("//", "//" .. name .. ":pw@", 1))
    end

    it("are told for each pattern", function()
      user("partly", "~redmoon:*", "&redmoon:*", "+@all", "-hset")
      local found, result = examine(url(), "--user", "partly", "--uses", "lock,rate-limiter")
      assert.equal(1, result.status)
      assert_found(found, "permissions", "failure", "may not use: lock -> ACL SETUSER partly +hset")
      assert.equal("ok", found.permissions[2].status)
      assert.matches("may use: rate%-limiter", found.permissions[2].text)
      assert_found((examine(url(), "--user", "partly")), "permissions", "warning", "ACL SETUSER partly +hset")
    end)

    it("see that keys are out of reach", function()
      user("elsewhere", "~other:*", "&other:*", "+@all")
      assert_found((examine(url(), "--user", "elsewhere")), "permissions", "warning", "ACL SETUSER elsewhere ~redmoon:*")
      assert.matches("may not use: topic %-> ACL SETUSER elsewhere ~redmoon:%* &redmoon:%*",
        (cli.run { "doctor", "--url", url(), "--user", "elsewhere" }.out:gsub("%s+", " ")))
      local found = examine(url() .. "?key_prefix=other", "--user", "elsewhere")
      assert_found(found, "permissions", "ok", "lock")
    end)

    it("may be unknown, as may be much else", function()
      local own = user("app", "~redmoon:*", "-@all", "+@connection", "+@read", "+time", "+info", "-acl|dryrun")
      local found, result = examine(own)
      assert.equal(0, result.status, result.out)
      for _, id in ipairs { "idle", "slow log", "latency", "output buffers" } do
        assert_found(found, id, "skipped", "NOPERM")
      end
      local bare = user("bare", "+ping", "+hello", "+auth")
      found, result = examine(bare)
      assert.equal(0, result.status, result.out .. result.err)
      assert_found(found, "server", "skipped", "NOPERM")
      assert_found(found, "eviction", "skipped", "INFO")
    end)

    it("that the page names are enough", function()
      configure("latency-monitor-threshold", "100")
      local words = {}
      for word in cli.read("docs/cli.md"):match("rule and `(%+info [^`]+)`"):gmatch("%S+") do words[#words + 1] = word end
      local own = user("checker", "+hello", "+auth", "+ping", "+client|setname", "+client|id", table.unpack(words))
      local found, result = examine(own)
      assert.equal(0, result.status)
      assert.is_nil(result.out:find("skipped", 1, true), result.out)
      assert_found(found, "permissions", "warning", "user 'checker' may not use")
    end)

    it("of somebody unknown are unknown", function()
      assert_found((examine(url(), "--user", "nobody")), "permissions", "skipped", "nobody")
    end)
  end)

  it("prints JSON", function()
    local result = cli.run { "doctor", "--json", "--processes", "3", "--url", url() }
    assert.equal(0, result.status)
    assert.matches("^{\n.*\n}\n$", result.out)
    assert.matches('"id": "pools",\n +"maxclients": %d+,\n +"needed": 60,\n +"pool_size": 20,\n +"processes": 3,\n'
      .. ' +"status": "ok"', result.out)
    assert.matches('"failures": 0,', result.out)
  end)
end)
