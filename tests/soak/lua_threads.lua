-- SPDX-License-Identifier: MIT
-- What each thread of lua_threads.c runs in each of its states, after which the state is closed: `wanted` calls
-- (those of a pipeline count each), with tags that nobody else uses.  Given: client, number of the thread, number of
-- this life, seed, calls wanted, tally(calls made, calls failed).

local client, number, life, seed, wanted, tally = ...
local redmoon = require "redmoon"
math.randomseed(seed, life)
local random = math.random

local serial, calls, failures = 0, 0, 0
local exact, maybe = {}, {} -- what own keys hold; what they may hold besides
local expected = { TIMEOUT = true, POOL_TIMEOUT = true, IO = true, CONNECT = true }

local function tag()
  serial = serial + 1
  return ("%d.%d.%d"):format(number, life, serial) .. ("x"):rep(random(0, 200))
end

local function key() return ("own:%d:%d:%d"):format(number, life, random(1, 5)) end

-- A call may fail, but not in any way.
local function failed(message, code)
  if not expected[code] then error(("%s: %s"):format(tostring(code), tostring(message)), 2) end
  failures = failures + 1
end

local function same(want, value, message, code)
  if value == nil then return failed(message, code) end
  if value ~= want then error(("MISMATCH: %s got %s"):format(want, tostring(value)), 2) end
end

local function set(view)
  local k, v = key(), tag()
  local ok, message, code, detail = view:set(k, v)
  if ok then
    exact[k] = v
    return
  end
  failed(message, code)
  if detail.outcome ~= "not_sent" then maybe[v] = k end -- it may yet take place, even later
end

local function get(view)
  local k = key()
  local v, message, code = view:get(k)
  if v == nil and code then return failed(message, code) end
  if v ~= exact[k] and maybe[v] ~= k then error(("MISMATCH: %s is %s"):format(k, tostring(v))) end
end

local function echo()
  local t = tag()
  same(t, client:echo(t))
end

local both = redmoon.script("return {KEYS[1], ARGV[1]}")
local slow = redmoon.script("local x = 0 for i = 1, 100000 do x = x + i end return ARGV[1]")

local function pipeline()
  local tags = {}
  local replies, message, code = client:pipeline(function(p)
    for i = 1, random(2, 20) do
      tags[i] = tag()
      p:echo(tags[i])
    end
    p:run(both, { tags[1] }, { tags[2] })
  end)
  calls = calls + #tags
  if not replies then return failed(message, code) end
  local lost
  for i = 1, replies.n do
    local value = replies[i]
    if redmoon.is_error(value) then
      lost = value
    elseif i <= #tags then
      same(tags[i], value)
    else
      same(tags[1], value[1])
      same(tags[2], value[2])
    end
  end
  if lost then failed(tostring(lost), lost.code) end
end

local function run()
  local a, b = tag(), tag()
  local reply, message, code = client:run(both, { a }, { b })
  if not reply then return failed(message, code) end
  same(a, reply[1])
  same(b, reply[2])
end

local function transaction()
  local a, b = tag(), tag()
  local replies, message, code = client:transaction(key(), function(tx)
    local v, why, what = tx:echo(a)
    if v == nil then
      failed(why, what)
      return false
    end
    same(a, v)
    tx:multi()
    tx:echo(b)
    tx:incr("count:" .. number)
  end)
  if replies then
    if redmoon.is_error(replies[1]) then return failed("the reply was lost", "IO") end
    return same(b, replies[1])
  end
  if code then failed(message, code) end
end

local quick = {}
for i, timeout in ipairs { 0.001, 0.002, 0.005 } do quick[i] = assert(client:with { timeout = timeout }) end

local function hurried()
  local view, t = quick[random(#quick)], tag()
  local what = random(10)
  if what == 1 then
    same(t, view:run(slow, {}, { t }))
  elseif what < 5 then
    set(view)
  elseif what < 8 then
    get(view)
  else
    same(t, view:echo(t))
  end
end

local function raise(call)
  tag()
  error("mine of " .. tostring(call))
end

local function raise_in_pipeline()
  local ok, message = pcall(client.pipeline, client, function(p)
    p:echo(tag())
    raise("pipeline")
  end)
  assert(not ok and tostring(message):find("mine of pipeline"), message)
end

local function raise_in_transaction()
  local watched = random(2) == 1 and key() or nil
  local function body(tx)
    tx:echo(tag())
    raise("transaction")
  end
  local ok, message, why, code
  if watched then
    ok, message, why, code = pcall(client.transaction, client, watched, body)
  else
    ok, message, why, code = pcall(client.transaction, client, body)
  end
  if ok then return failed(why, code) end -- the watch itself failed
  assert(tostring(message):find("mine of transaction"), message)
end

local function abandon()
  local co = coroutine.create(function()
    return client:transaction(key(), function(tx)
      tx:echo(tag())
      coroutine.yield("inside")
    end)
  end)
  coroutine.resume(co)
  co = nil -- luacheck: ignore
  collectgarbage()
  collectgarbage()
end

local function refused()
  local _, message, code = client:lpush("string", tag())
  if code ~= "WRONGTYPE" then failed(message, code) end
end

local function scan()
  local it, seen = assert(client:sscan("members")), 0
  local item, message, code = it:next()
  while item do
    assert(item:find("^member%d+$"), "MISMATCH in a scan")
    seen = seen + 1
    if seen == 7 and random(3) == 1 then return end -- left to the collector
    item, message, code = it:next()
  end
  if code then failed(message, code) end
end

local function lock()
  local held <close>, message, code = client:lock(("lock:%d"):format(random(3)), { ttl = 5 })
  if held then
    assert(held.fence > 0)
  elseif code ~= "LOCKED" then
    failed(message, code)
  end
end

local hooks = {}
local function hook()
  local n = random(3)
  if hooks[n] and random(2) == 1 then hooks[n]:close() end -- else it is left to the collector
  hooks[n] = assert(client:on("command", function()
    if random(50) == 1 then error("in a hook") end
  end))
end

-- Everybody's connections, whatever they are doing.
local function kill() client:call("CLIENT", "KILL", "TYPE", "normal") end

local choices = {}
local function often(n, fn, ...)
  local args = table.pack(...)
  local function call() return fn(table.unpack(args)) end
  for _ = 1, n do choices[#choices + 1] = call end
end
often(300, echo)
often(120, set, client)
often(120, get, client)
often(100, pipeline)
often(80, run)
often(40, transaction)
often(60, hurried)
often(10, raise_in_pipeline)
often(10, raise_in_transaction)
often(3, abandon)
often(30, refused)
often(10, scan)
often(10, lock)
often(5, hook)
often(1, kill)

local function usual() collectgarbage("incremental", 200, 100) end
local collectors = {
  function()
    collectgarbage("incremental", 200, 1000)
    collectgarbage("setpause", 0)
  end,
  function() collectgarbage("generational") end,
  function() collectgarbage() end,
}

local turns = 0
while calls < wanted do
  turns = turns + 1
  if turns % 100 == 0 then
    collectors[random(#collectors)]()
  elseif turns % 100 == 10 then
    usual() -- storms are short, or there would be little contention
  end
  choices[random(#choices)]()
  calls = calls + 1
  tally(calls, failures)
end

-- Some are closed with things open: a view, a scan, a lock, a transaction that watches.
if life % 2 == 0 then
  local inside = coroutine.create(function()
    client:transaction(key(), function(tx)
      tx:echo("x")
      coroutine.yield()
    end)
  end)
  rawset(_G, "left", { client:with { timeout = 1 }, inside, (client:sscan("members")), (client:lock("left:" .. tag())) })
  coroutine.resume(inside)
end
