-- SPDX-License-Identifier: MIT
-- Tags of a cache on a real server, beside the truth: what was invalidated, and when.  Keys are lost on the way as an
-- eviction would lose them; whatever is lost, nothing that has ended may seem to hold.
local here = debug.getinfo(1, "S").source:match("^@(.*/)") or "./"
package.path = here .. "support/?.lua;" .. package.path
local scripts = require "scripts"
local server = require "server"
local steps_of = require "steps"

local FRESH, LOAD, STORED, LOST = 1, 4, 1, -1
local KS = 1000000 -- ms
local EPOCH, TAG = "redmoon:{c}:c.cache+epoch", "redmoon:{c}:c.cache+tag."
local ENTRY, LEASE = "redmoon:{k}:c.cache", "redmoon:{k}:c.cache+lease"
local NAMES = {"cache_lease", "cache_put", "cache_release", "cache_epoch", "cache_tag", "cache_invalidate"}

local function id_of(tag) return (tag .. ("."):rep(16)):sub(1, 16) end
local function hex(id) return (id:gsub(".", function(c) return ("%02x"):format(c:byte()) end)) end

describe("tags of a cache", function()
  local redis, stop, sha
  setup(function()
    redis, stop = server.start()
    sha = {}
    for _, name in ipairs(NAMES) do sha[name] = redis:call("SCRIPT", "LOAD", scripts.expand(name)) end
  end)
  teardown(function() stop() end)
  before_each(function() redis:call("FLUSHALL") end)

  local seed = math.tointeger(os.getenv("SEED") or 20261126)
  local steps = steps_of(20000)
  local schedules = math.tointeger(os.getenv("SCHEDULES") or 1000)
  print(("SEED=%d STEPS=%d SCHEDULES=%d"):format(seed, steps, schedules))

  local function key_of(tag) return TAG .. hex(id_of(tag)) end
  -- Keys and ids of tags, behind that of the epoch.
  local function keys_of(tags)
    local keys, ids = {EPOCH}, ""
    for i, tag in ipairs(tags) do
      keys[i + 1] = key_of(tag)
      ids = ids .. id_of(tag)
    end
    return keys, ids
  end

  local function run(name, keys, ...)
    local command = {"EVALSHA", sha[name] or name, #keys}
    for _, list in ipairs {keys, {...}} do
      for _, each in ipairs(list) do command[#command + 1] = each end
    end
    return redis:call(table.unpack(command))
  end

  local function epoch() return math.tointeger(tonumber(run("cache_epoch", {EPOCH})[2])) end
  local function tag(tags, began, ttl, script)
    local keys, ids = keys_of(tags)
    return run(script or "cache_tag", keys, began or 0, ttl or KS, ids)
  end
  local function invalidate(tags)
    local keys, ids = keys_of(tags)
    return run("cache_invalidate", keys, ids)
  end
  -- Whether all of them still have these versions, as a client looks at it.
  local function holds(tags, versions)
    local keys = keys_of(tags)
    local now = redis:call("MGET", table.unpack(keys, 2))
    for i in ipairs(tags) do
      if now[i] ~= versions[i] then return false end
    end
    return true
  end

  it("hold as long as none of them was invalidated, over random steps, whatever is lost", function()
    math.randomseed(seed)
    local all = {"a", "b", "c", "d", "e", "f"}
    local serial, ended, lossless = 0, {}, 0 -- steps so far; of each tag the last invalidation; the last loss
    local loads, entries, seen = {}, {}, {}
    local function count(what) seen[what] = (seen[what] or 0) + 1 end
    local function some_tags()
      local tags = {}
      for _, each in ipairs(all) do
        if math.random(3) == 1 then tags[#tags + 1] = each end
      end
      if #tags == 0 then tags[1] = all[math.random(#all)] end
      return tags
    end
    local function ended_since(tags, since)
      for _, each in ipairs(tags) do
        if (ended[each] or 0) > since then return true end
      end
      return false
    end
    for _ = 1, steps do
      serial = serial + 1
      local how = math.random(20)
      if how <= 5 then
        loads[#loads + 1] = {epoch = epoch(), serial = serial}
        if #loads > 10 then table.remove(loads, 1) end
      elseif how <= 10 and #loads > 0 then
        local load, tags = loads[math.random(#loads)], some_tags()
        local ttl = math.random(1, 9) * KS
        local before = redis:call("DUMP", EPOCH)
        local answer = tag(tags, load.epoch, ttl)
        if answer[1] == STORED then
          assert.is_false(ended_since(tags, load.serial), "stored what had ended")
          entries[#entries + 1] = {tags = tags, versions = table.move(answer, 2, #answer, 1, {}), serial = load.serial}
          if #entries > 30 then table.remove(entries, 1) end
          for _, each in ipairs(tags) do assert.is_true(redis:call("PTTL", key_of(each)) > ttl - 100000) end
          count("stored")
        else
          assert.are.same({LOST}, answer)
          assert.are.equal(before, redis:call("DUMP", EPOCH))
          assert.is_true(ended_since(tags, load.serial) or lossless > load.serial, "lost without a reason")
          count("lost")
        end
      elseif how <= 12 then
        local tags = some_tags()
        assert.are.same({STORED}, invalidate(tags))
        for _, each in ipairs(tags) do ended[each] = serial end
        count("invalidated")
      elseif how <= 19 then
        local entry = entries[math.random(math.max(#entries, 1))]
        if entry then
          local held = holds(entry.tags, entry.versions)
          if held then
            assert.is_false(ended_since(entry.tags, entry.serial), "what had ended seems to hold")
          else
            assert.is_true(ended_since(entry.tags, entry.serial) or lossless > entry.serial, "ended without a reason")
          end
          count(held and "held" or "ended")
        end
      elseif math.random(10) == 1 then
        redis:call("DEL", math.random(3) == 1 and EPOCH or key_of(all[math.random(#all)]))
        lossless = serial
        count("evicted")
      end
      if serial % 100 == 0 then
        for _, key in ipairs(redis:call("KEYS", "*")) do assert(redis:call("PTTL", key) > 0, "a key without a TTL") end
      end
    end
    for _, what in ipairs {"stored", "lost", "invalidated", "held", "ended", "evicted"} do
      assert.is_true((seen[what] or 0) > steps // 1000, "too few of " .. what)
    end
  end)

  -- Schedules: three loaders and three writers take their steps in random order.  A value has one or two tags, and
  -- what is true of each of them when it is loaded.  A loader reads, looks at the tags, takes the lease and the epoch,
  -- reads the truth, asks for versions, and puts; a writer changes the truth of a tag, and invalidates it, or deletes
  -- the key, and some keys get lost.  Returns how many reads saw what is older than an invalidation that had ended
  -- before they began, and how many loads and reads of what is stored there were.
  local function run_schedules(count, options)
    local number, stale, loads, hits = 0, 0, 0, 0
    local function entry_text(body)
      number = number + 1
      return "\201RC\1" .. string.pack(">I1I1I2I8I6I6I4I8", 4, 0, 0, number, KS, KS, 5, 0) .. body
    end
    for n = 1, count do
      local truth, deleted = {a = 1, b = 1}, {a = 0, b = 0}
      local entry, key = ENTRY .. n, LEASE .. n
      -- What a client does with an entry: true if it serves it.
      local function serve(text, wall)
        local values, tags, versions = {}, {}, {}
        for name, value, version in text:sub(41):gmatch("(%a)(%d+):(%d+)") do
          tags[#tags + 1], values[#values + 1], versions[#versions + 1] = name, tonumber(value), version
        end
        coroutine.yield()
        if not options.blind and not holds(tags, versions) then return false end
        hits = hits + 1
        for i, name in ipairs(tags) do
          if values[i] < wall[name] then stale = stale + 1 return true end
        end
        return true
      end
      local function loader(name)
        for _ = 1, 3 do
          local wall = {a = deleted.a, b = deleted.b}
          local there = redis:call("GET", entry)
          local served = there and serve(there, wall)
          coroutine.yield()
          if not served then
            local token = name .. n .. math.random(1 << 30)
            local answer = run("cache_lease", {entry, key}, token, 10000, "", there and there:sub(1, 40) or "",
              there and "reject" or "load")
            local began = epoch()
            if answer[1] == FRESH then serve(answer[2], wall) end
            coroutine.yield()
            if answer[1] == LOAD then
              local tags = ({{"a"}, {"b"}, {"a", "b"}})[math.random(3)]
              local values = {}
              for i, each in ipairs(tags) do values[i] = truth[each] end
              loads = loads + 1
              coroutine.yield()
              local versions = tag(tags, began, KS, options.tag)
              coroutine.yield()
              if versions[1] == STORED then
                local parts = {}
                for i, each in ipairs(tags) do parts[i] = ("%s%d:%s"):format(each, values[i], versions[i + 1]) end
                run("cache_put", {entry, key}, token, entry_text(table.concat(parts, " ")), KS)
              else
                run("cache_release", {key}, token, 0)
              end
              coroutine.yield()
            end
          end
        end
      end
      local function writer()
        local name = math.random(2) == 1 and "a" or "b"
        truth[name] = truth[name] + 1
        local mine = truth[name]
        coroutine.yield()
        invalidate {name}
        deleted[name] = math.max(deleted[name], mine)
        coroutine.yield()
        local what = math.random(10)
        if what == 1 then redis:call("DEL", EPOCH)
        elseif what == 2 then redis:call("DEL", key_of(name))
        elseif what == 3 then redis:call("UNLINK", entry, key) end
      end
      local running = {}
      for i, name in ipairs {"1", "2", "3"} do running[i] = {coroutine.create(loader), name} end
      for i = 4, 6 do running[i] = {coroutine.create(writer)} end
      while #running > 0 do
        local i = math.random(#running)
        assert(coroutine.resume(running[i][1], running[i][2]))
        if coroutine.status(running[i][1]) == "dead" then table.remove(running, i) end
      end
      if n % 1000 == 0 then redis:call("FLUSHALL") end
    end
    return stale, loads, hits
  end

  it("after an invalidation no read yields what was loaded before it", function()
    math.randomseed(seed)
    local stale, loads, hits = run_schedules(schedules, {})
    assert.are.equal(0, stale)
    assert.is_true(loads > schedules and hits > schedules)
  end)

  it("and reads do where versions are given whatever has ended meanwhile", function()
    math.randomseed(seed)
    local text, seams = scripts.expand("cache_tag"):gsub("began > 0 and #versions or 0", "0")
    assert.are.equal(1, seams)
    assert.is_true(run_schedules(math.min(schedules, 1000), {tag = redis:call("SCRIPT", "LOAD", text)}) > 0)
  end)

  it("and reads do where a reader does not look at the versions", function()
    math.randomseed(seed)
    assert.is_true(run_schedules(math.min(schedules, 1000), {blind = true}) > 0)
  end)

  it("a load is stored though others were invalidated meanwhile, as long as the last 64 are known", function()
    local began = epoch()
    for i = 1, 64 do
      assert.are.equal(STORED, tag({"t"}, began)[1])
      redis:call("DEL", key_of "t") -- its version alone would say so
      invalidate {"other" .. i}
    end
    assert.are.equal(64 * 16 + 16, redis:call("STRLEN", EPOCH))
    assert.are.equal(STORED, tag({"t"}, began)[1])
    assert.are.same({LOST}, tag({"t", "other1"}, began))
    invalidate {"one more"}
    assert.are.equal(64 * 16 + 16, redis:call("STRLEN", EPOCH))
    redis:call("DEL", key_of "t")
    assert.are.same({LOST}, tag({"t"}, began))
    assert.are.equal(STORED, tag({"t"}, epoch())[1])
    assert.are.equal(STORED, tag({"other1", "one more"})[1]) -- for a value that is set
    -- One that was there all the time is no question, however many others ended.
    local later = epoch()
    for i = 1, 200 do invalidate {"other" .. i} end
    assert.are.equal(STORED, tag({"t"}, later)[1])
    assert.are.same({LOST}, tag({"t", "other200"}, later))
  end)

  it("32 are invalidated at once", function()
    local tags = {}
    for i = 1, 32 do tags[i] = "t" .. i end
    local began = epoch()
    local versions = table.move(tag(tags, began), 2, 33, 1, {})
    assert.is_true(holds(tags, versions))
    invalidate(tags)
    assert.are.equal(began + 32, epoch())
    for i, each in ipairs(tags) do
      assert.is_false(holds({each}, {versions[i]}))
      assert.are.same({LOST}, tag({each}, began))
    end
    assert.are.equal(1, redis:call("DBSIZE"))
  end)

  it("an epoch that was lost begins above what it ever was; one from a clock set back gives nothing away", function()
    local began = epoch()
    local version = tag({"a"}, began)[2]
    redis:call("FLUSHALL")
    assert.is_true(epoch() > began)
    assert.is_false(holds({"a"}, {version}))
    assert.are.same({LOST}, tag({"a"}, began))
    -- As if the new epoch came from a clock that is an hour behind.
    local now = epoch()
    redis:call("SET", EPOCH, ("%016d"):format(now - 3600000000), "PX", KS)
    assert.are.same({LOST}, tag({"a"}, now))
    for _, trash in ipairs {"", "x", "12", ("9"):rep(15)} do
      redis:call("SET", EPOCH, trash)
      assert.is_true(epoch() > now)
      assert.is_true(redis:call("PTTL", EPOCH) > 0)
    end
  end)

  it("what was invalidated is known for two days, and versions as long as their entries", function()
    tag({"a", "b"}, 0, 3 * KS)
    tag({"a"}, 0, 2 * KS)
    invalidate {"b"}
    local a = key_of "a"
    assert.is_true(redis:call("PTTL", a) > 2 * KS)
    assert.is_true(redis:call("PTTL", EPOCH) > 172000000)
    redis:call("PERSIST", a)
    tag({"a"}, 0, KS)
    assert.is_true(redis:call("PTTL", a) > 0)
  end)

  it("bad input is refused before anything is written", function()
    local keys, ids = keys_of {"a"}
    for _, bad in ipairs {{-1, KS, ids}, {0.5, KS, ids}, {"x", KS, ids}, {0, 0, ids}, {0, "nan", ids}, {0, 1e300, ids},
      {0, KS, "short"}, {0, KS, ids .. ids}} do
      assert.is_truthy(run("cache_tag", keys, table.unpack(bad)).err:find("cache_tag: ARGV", 1, true))
    end
    assert.is_truthy(run("cache_tag", {EPOCH}, 0, KS, "").err:find("cache_tag: ARGV", 1, true))
    local many = {}
    for i = 1, 33 do many[i] = "t" .. i end
    assert.is_truthy(tag(many).err:find("1 to 32 tags", 1, true))
    assert.is_truthy(invalidate(many).err:find("1 to 32 tags", 1, true))
    assert.is_truthy(invalidate({}).err:find("1 to 32 tags", 1, true))
    assert.is_truthy(run("cache_invalidate", keys, "short").err:find("1 to 32 tags", 1, true))
    assert.are.equal(0, redis:call("DBSIZE"))
    redis:call("LPUSH", EPOCH, "x")
    local dump = redis:call("DUMP", EPOCH)
    assert.is_truthy(run("cache_epoch", {EPOCH}).err:find("WRONGTYPE", 1, true))
    assert.is_truthy(tag({"a"}).err:find("WRONGTYPE", 1, true))
    assert.is_truthy(invalidate({"a"}).err:find("WRONGTYPE", 1, true))
    assert.are.equal(dump, redis:call("DUMP", EPOCH))
    assert.are.equal(1, redis:call("DBSIZE"))
  end)

  it("a tag takes some 150 bytes, and the epoch up to 1,300", function()
    for i = 1, 64 do invalidate {"t" .. i} end
    tag({"a"})
    local a = key_of "a"
    local bytes, most = redis:call("MEMORY", "USAGE", a), redis:call("MEMORY", "USAGE", EPOCH)
    print(("bytes of a tag: %d, of the epoch: %d"):format(bytes, most))
    assert.is_true(bytes <= 200 and most <= 1600)
  end)
end)
