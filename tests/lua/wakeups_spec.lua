-- SPDX-License-Identifier: MIT
-- Coroutines that wait for what other coroutines of the same loop hold are woken.  That no wake-up is lost is proved in
-- tests/server/test_wakeups.c and tests/scripts/waits_spec.lua.

local helper = require "tests.lua.helper"
local loops = require "tests.lua.loops"
local redmoon = require "redmoon"

local function received(client)
  return tonumber(client:metrics():match('redmoon_wakeups_total{result="received"} (%d+)') or 0)
end

-- What is taken by `take` and given back by its result's `give`; `marked` is whether somebody is known to wait.
local things = {
  lock = {
    take = function(client) return assert(client:lock("l", { ttl = 60, wait = 60 })) end,
    give = function(lock) assert(lock:release()) end,
    marked = function(client) return client:hexists("redmoon:{l}:lock", "waits") == 1 end,
  },
  ["fair lock"] = {
    take = function(client) return assert(client:lock("l", { ttl = 60, wait = 60, fair = true })) end,
    give = function(lock) assert(lock:release()) end,
    marked = function(client) return client:hexists("redmoon:{l}:lock", "waits") == 1 end,
  },
  permit = {
    take = function(client) return assert(client:semaphore("s", { permits = 1, ttl = 60, wait = 60 }):acquire()) end,
    give = function(permit) assert(permit:release()) end,
    marked = function(client) return client:exists("redmoon:{s}:semaphore.waits") == 1 end,
  },
  ["write lock"] = {
    take = function(client) return assert(client:rwlock("w", { ttl = 60, wait = 60 }):write()) end,
    give = function(permit) assert(permit:release()) end,
    marked = function(client) return client:exists("redmoon:{w}:rwlock.waits") == 1 end,
  },
}

for name, run in pairs(loops.each) do
  describe("under " .. name, function()
    local clients

    before_each(function()
      clients = {}
      for i = 1, 2 do clients[i] = assert(redmoon.connect(helper.server().url, { loop = name, pool_size = 4 })) end
      assert(clients[1]:flushall())
    end)
    after_each(function()
      for _, client in ipairs(clients) do client:close() end
    end)

    for what, thing in pairs(things) do
      it("waiters for a " .. what .. " are woken one after the other, over two clients", function()
        local inside, most, done, functions = 0, 0, 0, {}
        local first
        functions[1] = function()
          first = thing.take(clients[1])
          while not thing.marked(clients[1]) do assert(clients[1]:ping()) end
          thing.give(first)
        end
        for i = 1, 8 do
          functions[#functions + 1] = function()
            while not first do assert(clients[2]:ping()) end
            local held = thing.take(clients[i % 2 + 1])
            inside = inside + 1
            most = math.max(most, inside)
            assert(clients[1]:ping())
            inside = inside - 1
            thing.give(held)
            done = done + 1
          end
        end
        run(table.unpack(functions))
        assert.equal(8, done)
        assert.equal(1, most)
        assert.is_true(received(clients[1]) + received(clients[2]) > 0)
      end)
    end

    it("on_lost is called though nobody calls anything, and not of a lock that was released", function()
      local told, lost = {}, nil
      local client = clients[1]
      run(function()
        local function on_lost(lock) told[#told + 1] = lock end
        local released = assert(client:lock("r", { ttl = 60, on_lost = on_lost }))
        local closed = assert(client:lock("c", { ttl = 60, on_lost = on_lost }))
        lost = assert(client:lock("l", { ttl = 0.05, on_lost = on_lost }))
        assert(released:release())
        closed:close()
        closed = nil -- luacheck: ignore
      end)
      while name == "copas" and #told == 0 do require("copas").step(1) end -- whose run ends with the function
      assert.equal(1, #told)
      assert.equal(lost, told[1])
      assert.is_false(lost:held())
    end)

    it("who waits for another's load is woken by it", function()
      local loads, waits, begun = 0, 0, false
      local function get(client, load)
        local cache <close> = assert(client:cache { name = "c", ttl = 60 })
        assert.equal("v", cache:get("k", load))
        waits = waits + cache:stats().waits
      end
      run(function()
        get(clients[1], function()
          loads, begun = loads + 1, true
          while clients[1]:exists("redmoon:{k}:c.cache+waits") == 0 do assert(clients[1]:ping()) end
          return "v"
        end)
      end, function()
        while not begun do assert(clients[2]:ping()) end
        get(clients[2], function() error("it was loaded twice") end)
      end)
      assert.equal(1, loads)
      assert.equal(1, waits)
    end)
  end)
end
