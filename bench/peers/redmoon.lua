-- SPDX-License-Identifier: MIT
-- Redmoon from Lua, with its default options.
local redmoon = require "redmoon"
local bench = require "bench"

local function open(host, port)
  local url = port and ("redis://%s:%d"):format(host, port) or "unix://" .. host
  local client = assert(redmoon.connect(url))
  local key, keys, is_string = bench.keys[1], bench.keys, bench.string

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

  return {
    get = function() is_string(client:get(key), bench.small) end,
    get64k = function() is_string(client:get("bench:big"), bench.big) end,
    set = function() assert(client:set("bench:set", bench.value) == true, "SET was not OK") end,
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
