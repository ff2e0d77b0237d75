-- SPDX-License-Identifier: MIT
-- Redmoon from Lua, with its default options.
local redmoon = require "redmoon"
local bench = require "bench"

local function open(host, port)
  local url = port and ("redis://%s:%d"):format(host, port) or "unix://" .. host
  local seed = host:match("^cluster:(.*)")
  if seed then url = ("redis+cluster://%s:%d"):format(seed, port) end
  local client = assert(redmoon.connect(url))
  local key, keys, value, wrong = bench.keys[1], bench.keys, bench.value, bench.wrong

  local next_key = 0
  local function pipeline(count)
    return function(full)
      local replies = assert(client:pipeline(function(p)
        for i = 1, count do
          p:get(keys[i])
        end
      end))
      bench.strings(replies, count, bench.small, full)
    end
  end

  local limiter = client:rate_limiter {algorithm = "gcra", name = "bench", limit = 100000, window = 1}
  local counter = client:counter("bench", {window = 60})
  local queue = client:queue("bench")

  local function jobs(count)
    local items = {}
    for i = 1, count do items[i] = {payload = bench.job} end
    return items
  end
  local many, bulk = jobs(bench.many), jobs(bench.bulk)
  local function expect(ok)
    if not ok then error("unexpected reply: not the jobs that were pushed", 2) end
  end

  return {
    lock = function() assert(assert(client:lock("bench")):release()) end,
    rate = function() if not limiter:allow("bench").allowed then wrong(0) end end,
    counter = function() if counter:increment("bench").applied ~= 1 then wrong(0) end end,
    job = function()
      assert(queue:push(bench.job))
      local job = assert(queue:pop())
      expect(job.payload.text == bench.job.text)
      assert(job:ack())
    end,
    job50 = function()
      expect(#assert(queue:push_many(many)) == bench.many)
      local taken = assert(queue:pop_many(bench.many))
      expect(#taken == bench.many)
      for i = 1, #taken do expect(taken[i].payload.text == bench.job.text) end
      expect(#assert(queue:ack_many(taken)) == 0)
    end,
    jobs = function(full)
      expect(#assert(queue:push_many(bulk)) == bench.bulk)
      if full then assert(queue:purge("ready")) end
    end,
    get = function() if #client:get(key) ~= 16 then wrong(16) end end,
    get_any = function()
      next_key = next_key % #keys + 1
      if #client:get(keys[next_key]) ~= 16 then wrong(16) end
    end,
    get64k = function() if #client:get("bench:big") ~= 65536 then wrong(65536) end end,
    set = function() if client:set("bench:set", value) ~= true then wrong(0) end end,
    pipe100 = pipeline(100),
    pipe1000 = pipeline(1000),
    lrange = function(full)
      bench.strings(client:lrange("bench:list", 0, -1), bench.list, bench.item, full)
    end,
    hgetall = function(full) bench.hash(client:hgetall("bench:hash"), full) end,
    mget = function(full)
      bench.strings(client:mget(table.unpack(keys)), 1000, bench.small, full)
    end,
    mget100 = function(full)
      bench.strings(client:mget(table.unpack(keys, 1, 100)), 100, bench.small, full)
    end,
  }
end

bench.main(arg, open)
