-- SPDX-License-Identifier: MIT
-- redis-lua (Debian's lua-redis); it has no folder for Lua 5.4: bench/run names that for 5.3.
local redis = require "redis"
local bench = require "bench"

-- Its pipelines fail under Lua >= 5.3 for commands without a parser of their own: GET gets one.
local function as_it_is(reply) return reply end
redis.commands.parsed_get = redis.command("GET", {response = as_it_is})

local function open(host, port)
  local target = port and {host = host, port = port} or {scheme = "unix", path = host}
  local client = redis.connect(target)
  local key, keys, value, wrong = bench.keys[1], bench.keys, bench.value, bench.wrong

  local function pipeline(count)
    return function(full)
      local replies = client:pipeline(function(p)
        for i = 1, count do
          p:parsed_get(keys[i])
        end
      end)
      bench.strings(replies, count, bench.small, full)
    end
  end

  return {
    get = function() if #client:get(key) ~= 16 then wrong(16) end end,
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
  }
end

bench.main(arg, open)
