-- SPDX-License-Identifier: MIT
-- redmoon.redlock and the locks that it gives.

local helper = require "tests.lua.helper"
local redmoon = require "redmoon"

helper.over_each_way(describe, "a redlock", function(way)
  local servers, clients, redlock, other

  setup(function()
    servers = {}
    for i = 1, 2 do servers[i] = assert(helper.embedded()) end
  end)
  teardown(function()
    for _, server in ipairs(servers) do server:close() end
  end)

  local function connect_all()
    local list = { helper.connect(way) }
    for i, server in ipairs(servers) do
      list[i + 1] = assert(redmoon.connect(server.url, { protocol = way.protocol }))
    end
    return list
  end

  before_each(function()
    clients = connect_all()
    for _, client in ipairs(clients) do assert(client:flushall()) end
    redlock = redmoon.redlock { clients[1], clients[2], clients[3], quarantine = false }
    local others = connect_all()
    others.quarantine = false
    other = redmoon.redlock(others)
    for _, client in ipairs(others) do client:close() end -- it keeps its own
  end)
  after_each(function()
    redlock:close()
    other:close()
    for _, client in ipairs(clients) do client:close() end
  end)

  -- On how many servers the lock of that name is held.
  local function held(name)
    local count = 0
    for _, client in ipairs(clients) do count = count + client:exists("redmoon:{" .. name .. "}:redlock") end
    return count
  end
  local function eventually_held(name, count)
    helper.eventually(clients[1], name .. " on " .. count, function() return held(name) == count end)
  end

  it("is held by one at a time, and its fence rises", function()
    local lock = assert(redlock:lock("l"))
    assert.is_true(lock:held())
    assert.matches("^%x+$", lock.token)
    assert.equal(1, lock.holds)
    assert.is_true(lock:remaining() > 5 and lock:remaining() < 9.9)
    local message, detail = helper.assert_failure("LOCKED", other:lock("l"))
    assert.matches("redlock 'l': %d of 3 servers vote for it, and 2 must, %d for another", message)
    assert.is_true(detail.retryable)
    assert.is_true(lock:extend(20))
    assert.is_true(lock:remaining() > 15)
    assert.is_true(lock:release())
    assert.is_true(lock:release())
    assert.is_false(lock:held())
    helper.assert_failure("LOST", lock:extend())
    local second <close> = assert(other:lock("l"))
    assert.is_true(second.fence > lock.fence)
    assert.not_equal(lock.token, second.token)
  end)

  it("is waited for", function()
    local lock = assert(redlock:lock("l", { ttl = 0.2 }))
    local message, detail = helper.assert_failure("LOCKED", other:lock("l", { wait = 0.02 }))
    assert.matches("waited %d+ ms", message)
    assert.is_true(detail.attempts >= 2)
    local second <close> = assert(other:lock("l", { wait = 60 }))
    assert.is_true(second:held())
    assert.is_false(lock:held())
  end)

  it("tells that it was lost", function()
    local told = {}
    local lock = assert(redlock:lock("l", { on_lost = function(lost) told[#told + 1] = lost end }))
    for _, client in ipairs(clients) do assert(client:flushall()) end
    local second <close> = assert(other:lock("l"))
    helper.eventually(clients[1], "all have voted", function() return second:extend(10) and held("l") == 3 end)
    helper.assert_failure("LOST", lock:extend())
    assert.same({ lock }, told)
    helper.assert_failure("LOST", lock:release())
    assert.is_true(second:extend(20))
    assert.is_true(lock:close())
  end)

  it("is renewed, up to its longest hold", function()
    local lock <close> = assert(redlock:lock("l", { ttl = 0.6, renew = true, max_hold = 60 }))
    helper.assert_failure("LOCKED", other:lock("l", { wait = 0.9 }))
    assert.is_true(lock:held())
    assert.is_true(lock:extend(86400))
    assert.is_true(lock:remaining() > 50 and lock:remaining() < 60)
    local message = helper.assert_failure("UNAVAILABLE", lock:extend(86400))
    assert.matches("max_hold", message)
  end)

  it("is given back at the end of a scope, and by with_lock", function()
    pcall(function()
      local lock <close> = assert(redlock:lock("l"))
      assert.is_true(lock:held())
      error("out")
    end)
    eventually_held("l", 0)
    local fence, more = redlock:with_lock("l", { ttl = 5 }, function(lock, ...)
      helper.assert_failure("LOCKED", other:lock("l"))
      return lock.fence, ...
    end, "more")
    assert.equal("integer", math.type(fence))
    assert.equal("more", more)
    eventually_held("l", 0)
    helper.assert_failure("LOST", redlock:with_lock("l", function()
      for _, client in ipairs(clients) do assert(client:flushall()) end
    end))
  end)

  it("does not count the votes of servers that have just started", function()
    local careful <close> = redmoon.redlock { clients[1], clients[2], clients[3], quarantine = 86400 }
    local message, detail = helper.assert_failure("UNAVAILABLE", careful:lock("l"))
    assert.matches("0 of 3 servers vote for it, and 2 must, 3 in quarantine after a start", message)
    assert.is_true(detail.retryable)
    eventually_held("l", 0)
    local default <close> = redmoon.redlock(clients)
    helper.assert_raises("option ttl: 60001 ms is not accepted; give 10 to 60000 ms, the quarantine", function()
      default:lock("l", { ttl = 60.001 })
    end)
  end)

  it("goes on without one server, and not without two", function()
    local own, list = {}, { clients[1] }
    for i = 1, 2 do
      own[i] = assert(helper.embedded())
      list[i + 1] = assert(redmoon.connect(own[i].url))
    end
    list.quarantine = false
    local here <close> = redmoon.redlock(list)
    own[1]:close()
    local lock <close> = assert(here:lock("l"))
    assert.is_true(lock:extend())
    own[2]:close()
    local message, detail = helper.assert_failure("UNAVAILABLE", lock:extend())
    assert.matches("1 of 3 servers vote for it, and 2 must, 2 without an answer %(server 2: ", message)
    assert.equal("unknown", detail.outcome)
    assert.is_true(lock:held())
    helper.assert_failure("UNAVAILABLE", here:lock("m"))
    for i = 2, 3 do list[i]:close() end
  end)

  it("refuses what does not fit, by name", function()
    for option, why in pairs {
      fair = "is not for a redlock: its servers have no common order",
      min_replicas = "is not for a redlock: its servers are primaries",
      token = "is not for a redlock: its servers could not agree",
      request_id = "is not for a redlock: what failed was given back",
    } do
      helper.assert_raises("option '" .. option .. "' " .. why, function() redlock:lock("l", { [option] = 1 }) end)
    end
    helper.assert_raises("unknown option 'tll' %(did you mean 'ttl'%?%)", function() redlock:lock("l", { tll = 1 }) end)
    helper.assert_raises("option 'ttl'", function() redlock:lock("l", { ttl = 0.001 }) end)
    helper.assert_raises("option max_hold: 1000 ms is not accepted; give 2000", function()
      redlock:lock("l", { ttl = 2, max_hold = 1 })
    end)
    helper.assert_raises("a lock's name has 1 to 512 bytes", function() redlock:lock("") end)
    helper.assert_raises("a string is not accepted; it takes seconds from 0.01 to 86400, or false", function()
      redmoon.redlock { clients[1], clients[2], quarantine = "no" }
    end)
    helper.assert_raises("option 'quarantine': a boolean is not accepted", function()
      redmoon.redlock { clients[1], clients[2], quarantine = true }
    end)
    helper.assert_raises("unknown option 'quarantin' %(did you mean 'quarantine'%?%)", function()
      redmoon.redlock { clients[1], clients[2], quarantin = 1 }
    end)
    helper.assert_raises("1 clients are not accepted; give 2 to 31", function() redmoon.redlock { clients[1] } end)
    helper.assert_raises("clients 1 and 2 are one", function() redmoon.redlock { clients[1], clients[1] } end)
    helper.assert_raises("element 2 is not an open client", function() redmoon.redlock { clients[1], "x" } end)
    redlock:close()
    helper.assert_raises("the redlock is closed", function() redlock:lock("l") end)
  end)

  it("finds out that two clients reach one server", function()
    local again <close> = assert(redmoon.connect(servers[1].url))
    local doubled <close> = redmoon.redlock { clients[2], again, quarantine = false }
    local message = helper.assert_failure("CONFIG", doubled:lock("l", { wait = 60 }))
    assert.matches("two of its clients reach the same server", message)
    eventually_held("l", 0)
  end)

  it("may be collected while its locks live, and they go on", function()
    local lock
    do
      local passing = redmoon.redlock { clients[1], clients[2], clients[3], quarantine = false }
      lock = assert(passing:lock("l"))
    end
    collectgarbage()
    collectgarbage()
    assert.is_true(lock:extend())
    assert.is_true(lock:release())
    lock = nil -- luacheck: ignore
    assert(redlock:lock("forgotten"))
    collectgarbage()
    collectgarbage()
    helper.assert_failure("LOCKED", other:lock("forgotten")) -- its lease runs out
  end)
end)
