-- SPDX-License-Identifier: MIT
-- client:cache: what a Lua program sees of it.  What is decided is proved in tests/scripts and tests/server.

local helper = require "tests.lua.helper"
local redmoon = require "redmoon"

local function never() error("nothing is to be loaded") end

helper.over_each_way(describe, "a cache", function(way)
  local client

  before_each(function() client = helper.fresh(way) end)
  after_each(function() client:close() end)

  local function cache_of(options)
    options = options or {}
    options.name = options.name or "c"
    options.ttl = options.ttl or 60
    return assert(client:cache(options))
  end

  it("loads a value once, and tells where each came from", function()
    local cache, loads = cache_of(), 0
    local function load(key)
      loads = loads + 1
      assert.are.equal("user:1", key)
      return { name = "ann", ids = { 1, 2 } }
    end
    local value, message, code, info = cache:get("user:1", load)
    assert.are.same({ name = "ann", ids = { 1, 2 } }, value)
    assert.is_nil(message)
    assert.is_nil(code)
    assert.are.same({ source = "loader", state = "miss", age = 0, stored = true }, info)
    value, message, code, info = cache:get("user:1", load)
    assert.are.same({ name = "ann", ids = { 1, 2 } }, value)
    assert.is_nil(message)
    assert.is_nil(code)
    assert.are.equal("redis", info.source)
    assert.are.equal("hit", info.state)
    assert.is_true(info.age >= 0 and info.age < 30)
    assert.are.equal(1, loads)
    assert.are.equal(7, cache:get(7, function(key) return key end)) -- a number as key
    assert.are.equal(7, cache:peek("7"))
  end)

  it("keeps every kind of value that the codec knows", function()
    local cache = cache_of()
    local codec = { encode = function(v) return "<" .. v .. ">" end, decode = function(s) return s:match("^<(.*)>$") end }
    for i, value in ipairs { false, true, 0, -5, 1.5, "", "text", redmoon.null, {}, { 1 }, math.maxinteger } do
      for _ = 1, 2 do assert.are.same(value, (cache:get(i, function() return value end))) end
    end
    local text = cache_of { codec = "string", name = "s" }
    local bytes = "\0\255" .. ("x"):rep(1000)
    for _ = 1, 2 do assert.are.equal(bytes, (text:get("k", function() return bytes end))) end
    local own = cache_of { codec = codec, name = "own" }
    for _ = 1, 2 do assert.are.equal("v", (own:get("k", function() return "v" end))) end
  end)

  it("knows that there is no value", function()
    local cache, loads = cache_of(), 0
    for _ = 1, 3 do
      local value, message, code, info = cache:get("k", function() loads = loads + 1 end)
      assert.is_nil(value)
      assert.is_nil(message)
      assert.is_nil(code)
      assert.are.equal("table", type(info))
    end
    assert.are.equal(1, loads)
    assert.is_true(client:pttl("redmoon:{k}:c.cache") <= 5500)
  end)

  it("hands on how a loader failed, and what it raised", function()
    local cache = cache_of()
    local detail = { table = "users" }
    local message = helper.assert_failure("UNAVAILABLE", cache:get("k", function() return nil, "no rows" end))
    assert.are.equal("no rows", message)
    local _, got, code, more = cache:get("k", function() return nil, "no rows", "DB", detail end)
    assert.are.equal("no rows", got)
    assert.are.equal("DB", code)
    assert.are.equal(detail, more)
    local raised = {}
    local ok, what = pcall(cache.get, cache, "k", function() error(raised) end)
    assert.is_false(ok)
    assert.are.equal(raised, what)
    helper.assert_failure("CODEC", cache:get("k", function() return function() end end))
    assert.are.equal(0, client:dbsize()) -- no lease is left
    assert.are.equal(4, cache:stats().failures)
    assert.are.equal("v", (cache:get("k", function() return "v" end)))
  end)

  it("serves what is stale when a loader fails", function()
    local cache = cache_of { stale_ttl = 60, jitter = 0 }
    assert(cache:set("k", "old"))
    assert(client:pexpire("redmoon:{k}:c.cache", 50000))
    for _, fail in ipairs { function() return nil, "no" end, function() error("no") end } do
      local value, _, _, info = cache:get("k", fail)
      assert.are.equal("old", value)
      assert.are.equal("stale", info.state)
      assert.are.equal("UNAVAILABLE", info.error)
      assert.is_true(info.age >= 70)
    end
    assert.are.equal("new", (cache:get("k", function() return "new" end)))
  end)

  it("lets a loader use the client, and other keys of the cache", function()
    local cache = cache_of()
    local value = cache:get("outer", function()
      assert(client:set("x", 1))
      return cache:get("inner", function() return "in" end) .. "out"
    end)
    assert.are.equal("inout", value)
    assert.are.equal("in", cache:peek("inner"))
  end)

  it("says so when a loader asks for its own key", function()
    local cache = cache_of()
    local message = helper.assert_failure("UNAVAILABLE", cache:get("k", function(key)
      return cache:get(key, never)
    end))
    assert.matches("waiting for itself", message)
  end)

  it("drops what was loaded when it was deleted meanwhile", function()
    local cache = cache_of()
    local value, _, _, info = cache:get("k", function()
      assert.is_true(cache:delete("k"))
      return "old"
    end)
    assert.are.equal("old", value)
    assert.is_false(info.stored)
    assert.are.equal("LOST", info.error)
    assert.is_nil((cache:peek("k")))
    assert.are.equal(1, cache:stats().lost)
    assert.is_true(cache:delete("k"))
  end)

  it("sets, peeks and counts", function()
    local cache = cache_of { max_size = 100 }
    local value, message, code, info = cache:peek("k")
    assert.is_nil(value or message or code)
    assert.are.same({ source = "redis", state = "miss", age = 0 }, info)
    assert.is_true(cache:set("k", { 1 }, { ttl = 5 }))
    assert.is_true(client:pttl("redmoon:{k}:c.cache") <= 5500)
    assert.are.same({ 1 }, (cache:peek("k")))
    helper.assert_failure("TOO_LARGE", cache:set("k", ("x"):rep(200)))
    assert.are.same({ 1 }, (cache:get("k", never)))
    local stats = cache:stats()
    assert.are.equal(2, stats.hits)
    assert.are.equal(1, stats.misses)
    assert.are.equal(1, stats.too_large)
    assert.matches('redmoon_cache_total{result="hit"} 2', client:metrics(), 1, true)
  end)

  it("counts as a miss what cannot be decoded, and replaces it", function()
    local cache = cache_of()
    local text = cache_of { codec = "string" }
    assert(text:set("k", "of another codec"))
    assert.are.equal(1, (cache:get("k", function() return 1 end)))
    -- An entry in order, but what it holds is not: a decoder that fails is asked for again, with what was loaded.
    local broken = true
    local own = cache_of {
      name = "own",
      codec = { encode = tostring, decode = function(s) return not broken and s or error("cannot") end },
    }
    assert(own:set("k", "bad"))
    assert.is_nil((own:peek("k")))
    assert.are.equal(0, client:exists("redmoon:{k}:own.cache"))
    assert(own:set("k", "bad"))
    assert(own:set("l", "bad"))
    local value, _, _, info = own:get("k", function() return "good" end)
    assert.are.equal("good", value)
    assert.are.equal("loader", info.source)
    assert.are.same({ "k2", "l2" }, (own:get_many({ "k", "l" }, function(keys)
      local values = {}
      for _, key in ipairs(keys) do values[key] = key .. "2" end
      return values
    end)))
    assert.are.equal(4, own:stats().undecodable)
    broken = false
    assert.are.equal("k2", (own:get("k", never)))
    assert(client:set("redmoon:{k}:c.cache", "garbage", { ttl = 60 }))
    assert.are.equal(2, (cache:get("k", function() return 2 end)))
    assert.are.equal(2, cache:stats().undecodable)
  end)

  it("gets many in the order of their keys, and loads what is missing at once", function()
    local cache, asked = cache_of(), {}
    assert(cache:set("b", "set"))
    local function load_many(keys)
      asked[#asked + 1] = table.concat(keys, " ")
      return { a = "A", [4] = { four = 4 } }
    end
    local values, message, code, infos = cache:get_many({ "a", "b", "c", 4, "a" }, load_many)
    assert.is_nil(message or code)
    assert.are.same({ "A", "set", redmoon.null, { four = 4 }, "A" }, values)
    assert.are.same({ "a c 4" }, asked)
    for i, source in ipairs { "loader", "redis", "loader", "loader", "redis" } do
      assert.are.equal(source, infos[i].source)
    end
    assert.are.same(values, (cache:get_many({ "a", "b", "c", 4, "a" }, never)))
    assert.are.same({}, (cache:get_many({}, never)))
    local many = {}
    for i = 1, 500 do many[i] = i end
    values = cache:get_many(many, function(keys)
      local found = {}
      for _, key in ipairs(keys) do found[key] = key * 2 end
      return found
    end)
    for i = 1, 500 do assert.are.equal(i == 4 and 4 or i * 2, i == 4 and values[4].four or values[i]) end
  end)

  it("tells each key of many how it failed", function()
    local cache = cache_of { stale_ttl = 60, jitter = 0 }
    assert(cache:set("a", 1))
    assert(cache:set("s", "stale"))
    assert(client:pexpire("redmoon:{s}:c.cache", 50000))
    local values = cache:get_many({ "a", "b", "s" }, function() return nil, "no rows" end)
    assert.are.equal(1, values[1])
    assert.is_true(redmoon.is_error(values[2]))
    assert.matches("no rows", values[2].message)
    assert.are.equal("UNAVAILABLE", values[2].code)
    assert.are.equal("stale", values[3])
    values = cache:get_many({ "b" }, function() return 5 end)
    assert.matches("returned a number, not a table", values[1].message)
    local raised = {}
    local ok, what = pcall(cache.get_many, cache, { "b" }, function() error(raised) end)
    assert.is_false(ok)
    assert.are.equal(raised, what)
    values = cache:get_many({ "b", "d" }, function() return { b = 2, d = never } end)
    assert.are.equal(2, values[1])
    assert.are.equal("UNAVAILABLE", values[2].code)
  end)

  it("ends what was stored with a tag, when the tag ends", function()
    local cache, loads = cache_of { tags = true, stale_ttl = 60 }, 0
    local function load(key)
      loads = loads + 1
      return { id = key, n = loads }, nil, { tags = { "user:" .. key, "all", 7 } }
    end
    for _ = 1, 2 do assert.are.same({ id = 1, n = 1 }, (cache:get(1, load))) end
    assert.are.same({ id = 2, n = 2 }, (cache:get(2, load)))
    assert(cache:set(3, "set", { tags = { "user:3", 7 }, ttl = 30 }))
    assert(cache:set(4, "none"))
    assert.is_true(cache:invalidate_tags("user:1", "user:9"))
    assert.are.equal(3, cache:get(1, load).n)
    assert.are.equal(2, cache:get(2, load).n)
    assert.are.equal("set", (cache:peek(3)))
    assert.is_true(cache:invalidate_tags(7))
    local value, _, _, info = cache:peek(3)
    assert.is_nil(value)
    assert.are.equal("miss", info.state)
    assert.are.equal(4, cache:get(2, load).n)
    assert.are.equal("none", (cache:get(4, never)))
    local stats = cache:stats()
    assert.are.equal(3, stats.invalidated)
    assert.are.equal(0, stats.undecodable)
    -- That there is nothing may end, too.
    local function none() return nil, nil, { tags = { "absent" } } end
    assert.is_nil((cache:get(5, none)))
    assert.is_nil((cache:get(5, never)))
    assert.is_true(cache:invalidate_tags("absent"))
    assert.are.equal(5, cache:get(5, load).n)
  end)

  it("does not store what a tag has ended while it was loaded", function()
    local cache = cache_of { tags = true }
    local value, _, _, info = cache:get("k", function()
      assert(cache:invalidate_tags("t"))
      return "old", nil, { tags = { "t" } }
    end)
    assert.are.equal("old", value)
    assert.are.same({ source = "loader", state = "miss", age = 0, stored = false, error = "LOST" }, info)
    assert.are.equal(0, client:exists("redmoon:{k}:c.cache", "redmoon:{k}:c.cache+lease"))
    value, _, _, info = cache:get("k", function()
      assert(cache:invalidate_tags("another"))
      return "new", nil, { tags = { "t" } }
    end)
    assert.are.equal("new", value)
    assert.is_true(info.stored)
    assert.are.equal("new", (cache:get("k", never)))
    assert.are.equal(1, cache:stats().lost)
  end)

  it("takes tags for many, by key", function()
    local cache, asked = cache_of { tags = true }, {}
    local function load_many(keys)
      local found, tags = {}, {}
      asked[#asked + 1] = table.concat(keys, " ")
      for _, key in ipairs(keys) do
        if key ~= "c" then found[key] = key .. #asked end
        if key ~= "d" then tags[key] = { "t:" .. key, "all" } end
      end
      return found, nil, { tags = tags }
    end
    local keys = { "a", "b", "c", "d" }
    for _ = 1, 2 do assert.are.same({ "a1", "b1", redmoon.null, "d1" }, (cache:get_many(keys, load_many))) end
    assert.is_true(cache:invalidate_tags("t:a", "t:c"))
    assert.are.same({ "a2", "b1", redmoon.null, "d1" }, (cache:get_many(keys, load_many)))
    assert.is_true(cache:invalidate_tags("all"))
    assert.are.same({ "a3", "b3", redmoon.null, "d1" }, (cache:get_many(keys, load_many)))
    assert.are.same({ "a b c d", "a c", "a b c" }, asked)
  end)

  it("takes a loader's tags for what they are, or its load has failed", function()
    local cache, plain = cache_of { tags = true }, cache_of { name = "plain" }
    local many = {}
    for i = 1, 33 do many[i] = "t" .. i end
    for pattern, third in pairs {
      ["returned a string beside what it found"] = "user:1",
      ["tags are a string, not a list"] = { tags = "user:1" },
      ["gave 33 tags; up to 32"] = { tags = many },
      ["tag 2 is a table, not a string"] = { tags = { "a", {} } },
      ["a tag of 0 bytes is not accepted; it takes 1 to 255"] = { tags = { "" } },
      ["a tag of 256 bytes"] = { tags = { ("x"):rep(256) } },
    } do
      local message = helper.assert_failure("CONFIG", cache:get("k", function() return 1, nil, third end))
      assert.matches(pattern, message)
    end
    for pattern, third in pairs {
      ["tags are a string, not a table by key"] = { tags = "user:1" },
      ["returned a number beside"] = 5,
      ["tags are a boolean, not a list"] = { tags = { k = true } },
    } do
      local values = cache:get_many({ "k" }, function() return { k = 1 }, nil, third end)
      assert.matches(pattern, values[1].message)
    end
    local message = helper.assert_failure("CONFIG", plain:get("k", function() return 1, nil, { tags = { "t" } } end))
    assert.matches("it has no tags; make it with the option tags", message)
    assert.are.equal(1, (plain:get("k", function() return 1, nil, {} end)))
    assert.are.equal(1, (cache:get("k", function() return 1, nil, { tags = {} } end)))
    helper.assert_raises("it has no tags", function() plain:set("k", 1, { tags = { "t" } }) end)
    helper.assert_raises("it has no tags", function() plain:invalidate_tags("t") end)
    helper.assert_raises("option 'tags'%[1%]: string or number expected", function()
      cache:set("k", 1, { tags = { {} } })
    end)
    helper.assert_raises("a tag expected", function() cache:invalidate_tags() end)
    helper.assert_raises("33 tags are not accepted; give up to 32", function()
      cache:invalidate_tags(table.unpack(many))
    end)
  end)

  it("compresses what is large, and reads what is compressed without being told", function()
    local key = ("k"):rep(32)
    for name, options in pairs { open = {}, sealed = { seal_key = key } } do
      options.name, options.codec = name, "string"
      local reader = cache_of(options)
      options.compress, options.tags = 1000, true
      local cache = cache_of(options)
      local small, large = ("s"):rep(900), ("large "):rep(10000)
      local noise = {}
      for i = 1, 2000 do noise[i] = string.char(math.random(0, 255)) end
      noise = table.concat(noise)
      assert(cache:set("small", small))
      assert(cache:set("large", large, { tags = { "t" } }))
      assert(cache:set("noise", noise))
      assert.is_true(client:strlen(("redmoon:{small}:%s.cache"):format(name)) > 900)
      assert.is_true(client:strlen(("redmoon:{large}:%s.cache"):format(name)) < 1000)
      for _, each in ipairs { cache, reader } do
        assert.are.equal(small, (each:get("small", never)))
        assert.are.equal(large, (each:get("large", never)))
        assert.are.equal(noise, (each:get("noise", never)))
      end
      -- What would be larger than the reader's limit is none, before there is memory for it.
      options.max_size = 50000
      local short = cache_of(options)
      assert.is_nil((short:peek("large")))
      assert.are.equal(1, short:stats().undecodable)
    end
  end)

  it("seals what it stores", function()
    local key = ("k"):rep(32)
    local cache, other = cache_of { seal_key = key }, cache_of { seal_key = ("j"):rep(32) }
    assert(cache:set("k", "a secret value"))
    assert.is_nil(client:get("redmoon:{k}:c.cache"):find("secret", 1, true))
    assert.are.equal("a secret value", (cache:get("k", never)))
    assert.is_nil((other:peek("k")))
    assert.are.equal(1, other:stats().undecodable)
  end)
end)

describe("a cache", function()
  local client

  before_each(function() client = helper.client() end)
  after_each(function() client:close() end)

  it("refuses options that it does not know or take, at the caller's line", function()
    for pattern, options in pairs {
      ["unknown option 'tll' %(did you mean 'ttl'%?%)"] = { name = "c", tll = 5 },
      ["cache_spec.lua:%d+: option 'near' is not in this version"] = { name = "c", ttl = 5, near = { size = 10 } },
      ["option 'tags': a table is not accepted; it takes true or false"] = { name = "c", ttl = 5, tags = { "a" } },
      ["option 'compress': %-1 is not accepted; it takes bytes"] = { name = "c", ttl = 5, compress = -1 },
      ["cache option name is missing"] = { ttl = 5 },
      ["cache option ttl is missing"] = { name = "c" },
      ["option 'ttl': 0 is not accepted; it takes seconds from 0.001"] = { name = "c", ttl = 0 },
      ["option 'jitter': 0.6 is not accepted; it takes a number from 0 to 0.5"] = { name = "c", ttl = 5, jitter = 0.6 },
      ["option 'early_refresh': a boolean is not accepted"] = { name = "c", ttl = 5, early_refresh = true },
      ["option 'retry_after': %-1 is not accepted"] = { name = "c", ttl = 5, retry_after = -1 },
      ["cache option on_error: 'deny' is not accepted"] = { name = "c", ttl = 5, on_error = "deny" },
      ["cache option seal_key: 5 bytes are not accepted; give 32"] = { name = "c", ttl = 5, seal_key = "short" },
      ["option 'seal_key': a number is not accepted"] = { name = "c", ttl = 5, seal_key = 5 },
    } do
      helper.assert_raises(pattern, function() client:cache(options) end)
    end
    local cache = assert(client:cache { name = "c", ttl = 5 })
    helper.assert_raises("function expected", function() cache:get("k") end)
    helper.assert_raises("string or number expected", function() cache:get({}, never) end)
    helper.assert_raises("cache key: 0 bytes are not accepted", function() cache:get("", never) end)
    helper.assert_raises("a value expected; delete removes one", function() cache:set("k", nil) end)
    helper.assert_raises("501 keys are not accepted", function()
      local keys = {}
      for i = 1, 501 do keys[i] = i end
      cache:get_many(keys, never)
    end)
    assert.are.equal(0, client:dbsize())
  end)

  it("is closed by close(), by its scope, and by its own loader", function()
    do
      local cache <close> = assert(client:cache { name = "c", ttl = 5 })
      assert.is_true(cache:close())
      assert.is_true(cache:close())
      helper.assert_raises("the cache is closed", function() cache:get("k", never) end)
    end
    local cache = assert(client:cache { name = "c", ttl = 5 })
    assert.are.equal("v", (cache:get("k", function()
      cache:close()
      return "v"
    end)))
    client:close()
    helper.assert_failure("CLOSED", client:cache { name = "c", ttl = 5 })
  end)

  -- Without an event loop, whose coroutines are its own.
  it("lets a loader yield to whoever resumes its coroutine", function()
    local blocking <close> = assert(helper.server():connect())
    local cache = assert(blocking:cache { name = "c", ttl = 5 })
    local thread = coroutine.create(function()
      return cache:get("k", function(key) return coroutine.yield("wants " .. key) end)
    end)
    assert.are.equal("wants k", select(2, coroutine.resume(thread)))
    assert.are.equal(1, blocking:exists("redmoon:{k}:c.cache+lease"))
    assert.are.equal(0, blocking:stats().in_use)
    local _, got, message, code, info = coroutine.resume(thread, "later")
    assert.are.equal("later", got)
    assert.is_nil(message or code)
    assert.are.equal("loader", info.source)
    local many = coroutine.wrap(function()
      return cache:get_many({ "k", "l", "m" }, function(keys) return coroutine.yield(keys) end)
    end)
    assert.are.same({ "l", "m" }, many())
    assert.are.same({ "later", 1, redmoon.null }, (many { l = 1 }))
  end)

  it("gives up the load of a coroutine that is not resumed", function()
    local blocking <close> = assert(helper.server():connect())
    local cache = assert(blocking:cache { name = "c", ttl = 5, lease = 0.01 })
    do
      local thread = coroutine.wrap(function() return cache:get("k", coroutine.yield) end)
      thread()
    end
    collectgarbage()
    collectgarbage()
    assert.are.equal("v", (cache:get("k", function() return "v" end)))
  end)

  it("answers without Redis as on_error says, and tells it", function()
    local server = assert(helper.embedded())
    local away = server:connect { timeout = 0.3, connect_timeout = 0.1, max_retries = 0 }
    local loads = assert(away:cache { name = "c", ttl = 5 })
    local fails = assert(away:cache { name = "c", ttl = 5, on_error = "error" })
    server:close()
    local value, _, _, info = loads:get("k", function() return "v" end)
    assert.are.equal("v", value)
    assert.are.equal("fallback", info.source)
    assert.is_false(info.stored)
    assert.is_string(info.error)
    local values = loads:get_many({ "k", "l" }, function() return { k = 1 } end)
    assert.are.same({ 1, redmoon.null }, values)
    assert.are.equal(3, loads:stats().fallbacks)
    local got, message = fails:get("k", never)
    assert.is_nil(got)
    assert.is_string(message)
    away:close()
  end)
end)
