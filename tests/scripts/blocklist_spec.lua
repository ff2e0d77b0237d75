-- SPDX-License-Identifier: MIT
-- The blocklist's scripts beside models, in virtual time: over many random steps on a server in memory, and at the edges
-- on a real one.
local here = debug.getinfo(1, "S").source:match("^@(.*/)") or "./"
package.path = here .. "support/?.lua;" .. package.path
local fake = require "fake_redis"
local scripts = require "scripts"
local server = require "server"
local steps_of = require "steps"

local EXPIRED, REVOKED, KEPT, FAR = 0, 1, 2, -1
local ROTATED, REUSED, DEAD, TAKEN, GONE = 1, 3, 4, 5, 6
local MS, SECOND = 1000, 1000000
local START = 1760000000 * SECOND
local LATE = 3 * MS -- how long after its time a key may still be there
local STEPS = steps_of(100000)

local seed = math.tointeger(os.getenv("SEED") or 20261125)
print("SEED=" .. seed .. " STEPS=" .. STEPS)

-- A world of one clock: keys live by whole ms, TIME tells the rest too.
local function new_world()
  return {now = START, keys = {}, ahead = 0}
end
local function set_time(world, time)
  world.now, world.ahead = time // MS * MS, time % MS
end
local function time_of(world) return world.now + world.ahead end

local function entry_text(world, key)
  local entry = fake.live(world, key)
  if not entry then return "none" end
  local parts = {tostring(entry.text), tostring(entry.ends)}
  for field, value in pairs(entry.hash or {}) do parts[#parts + 1] = field .. "=" .. value end
  table.sort(parts)
  return table.concat(parts, " ")
end

local function text(number) return ("%.0f"):format(number) end

describe("blocklist scripts in virtual time", function()
  local revoke = fake.compile(scripts.expand("blocklist_revoke"), "blocklist_revoke")
  local cutoff = fake.compile(scripts.expand("blocklist_cutoff"), "blocklist_cutoff")
  local bump = fake.compile(scripts.expand("blocklist_bump"), "blocklist_bump")
  local rotate = fake.compile(scripts.expand("blocklist_rotate"), "blocklist_rotate")

  before_each(function() math.randomseed(seed) end)

  it("a token is revoked until exp + leeway and not after, whatever comes in between", function()
    local world, ends, codes = new_world(), {}, {}
    local TOKENS = 12
    for step = 1, STEPS do
      local time, some = time_of(world), ends["t" .. math.random(TOKENS)]
      local how = math.random(10)
      if how == 1 then time = time - math.random(0, 200 * SECOND) -- the clock is set back
      elseif how <= 4 and some then time = some + math.random(-2, 2) * (math.random(2) == 1 and 1 or MS)
      elseif how == 5 and some then time = some + LATE
      elseif how <= 8 then time = time + math.random(0, 30 * SECOND) end
      set_time(world, time)
      local token = "t" .. math.random(TOKENS)
      local exp = time // SECOND + math.random(-700, 400)
      local leeway = math.random(3) == 1 and math.random(0, 600000) or 60000
      local before, new_end, old_end = entry_text(world, token), exp * SECOND + leeway * MS, ends[token] or 0
      local answer = revoke(world, {token}, {text(exp), text(leeway), "1"})
      codes[answer[1]] = (codes[answer[1]] or 0) + 1
      if new_end <= time then assert(answer[1] == EXPIRED, "an expired token was revoked")
      else assert(answer[1] ~= EXPIRED, "a live token was not revoked") end
      if answer[1] ~= REVOKED then assert(entry_text(world, token) == before, "a refusal changed the key") end
      if new_end > time and old_end >= new_end + LATE and old_end > time then assert(answer[1] == KEPT) end
      if new_end > time and new_end > old_end + LATE then assert(answer[1] == REVOKED) end
      if answer[1] > 0 then
        ends[token] = math.max(old_end, new_end)
        assert(answer[2] * MS >= ends[token] - time, "the lifetime told is too short")
      end
      for name, last in pairs(ends) do
        local revoked = fake.live(world, name) ~= nil
        local early = ("step %d: %d us before its end it is not revoked"):format(step, last - time)
        if time < last then assert(revoked, early) end
        if time >= last + LATE then
          assert(not revoked, "it is revoked after its end")
          ends[name] = nil -- gone, also for a clock that is set back
        elseif not revoked then
          ends[name] = nil
        end
      end
    end
    for _, code in ipairs {EXPIRED, REVOKED, KEPT} do assert.is_true(codes[code] > STEPS / 100, code) end
  end)

  it("a token issued before revoke_subject or bump is refused while it lives; a new version is not", function()
    local LIFE, LEEWAY = 300, 60 -- seconds
    local life = text((LIFE + LEEWAY) * 1000)
    local world, tokens, last_version, highest = new_world(), {}, 0, 0
    local seen = {revoked = 0, let_in = 0, lost = 0}
    local function stored()
      local entry = fake.live(world, "s")
      local hash = entry and entry.hash or {}
      return hash.cut and math.tointeger(hash.cut), math.tointeger(hash.ver or 0)
    end
    for _ = 1, STEPS // 4 do
      set_time(world, time_of(world) + math.random(0, math.random(8) == 1 and 200 * SECOND or 3 * SECOND))
      local time, how = time_of(world), math.random(20)
      if how <= 10 then
        local _, version = stored()
        tokens[#tokens + 1] = {iat = time // SECOND, ver = version, exp = time // SECOND + math.random(1, LIFE)}
      elseif how == 11 then
        local answer = bump(world, {"s"}, {life})
        assert(answer[1] == REVOKED and answer[2] > last_version, "a version that does not rise")
        last_version = answer[2]
        for _, token in ipairs(tokens) do token.dead = true end
      elseif how == 12 then
        local before = math.random(2) == 1 and "" or text(time // MS - math.random(-20, 500) * 1000)
        local cut = before == "" and time // MS or math.tointeger(before)
        local was, old = entry_text(world, "s"), stored() or 0
        local answer = cutoff(world, {"s"}, {before, life})
        if cut * MS + (LIFE + LEEWAY) * SECOND <= time then
          assert(answer[1] == EXPIRED and entry_text(world, "s") == was)
        else
          assert(answer[1] == REVOKED and answer[2] == math.max(cut, old), "the cutoff fell")
          if cut <= old then assert(entry_text(world, "s") == was, "an earlier cutoff changed the key") end
          highest = math.max(highest, cut)
          for _, token in ipairs(tokens) do token.dead = token.dead or token.iat <= cut // 1000 end
        end
      elseif how == 13 and math.random(50) == 1 then
        world.keys, tokens = {}, {} -- FLUSHALL: what was revoked is forgotten, but no version comes back
        seen.lost = seen.lost + 1
      end
      local cut, version = stored()
      assert((cut or 0) <= highest)
      local alive = {}
      for _, token in ipairs(tokens) do
        local revoked = cut and token.iat <= cut // 1000 or token.ver < version
        if time < (token.exp + LEEWAY) * SECOND then
          alive[#alive + 1] = token
          if token.dead then assert(revoked, "a revoked token is let in while it lives") end
          if revoked then token.dead = true end
          if token.ver == version and token.iat * 1000 > highest then assert(not revoked, "a new token is refused") end
          seen[revoked and "revoked" or "let_in"] = seen[revoked and "revoked" or "let_in"] + 1
        end
      end
      while #alive > 40 do table.remove(alive, 1) end
      tokens = alive
      local entry = fake.live(world, "s")
      assert(not entry or entry.ends, "a key without a lifetime")
    end
    assert.is_true(seen.revoked > 1000 and seen.let_in > 1000 and seen.lost > 0)
  end)

  it("rotation answers as its model, and an id that was used kills its family in the same call", function()
    local world, model, codes = new_world(), {}, {}
    for _ = 1, STEPS do
      set_time(world, time_of(world) + math.random(0, math.random(6) == 1 and 40 * SECOND or SECOND))
      local time, name = time_of(world), "f" .. math.random(6)
      local family = model[name]
      if family and world.now >= family.ends then family, model[name] = nil, nil end
      local new, life = "i" .. math.random(0, 9999), math.random(1000, 60000)
      local presented = math.random(4) > 1 and family and family.current or ""
      local how = math.random(8)
      if family and how == 1 and #family.used > 0 then presented = family.used[math.random(#family.used)]
      elseif family and how == 2 then presented, new = family.last[1], family.last[2]
      elseif how == 3 then presented = "unknown" end
      if new ~= presented then
        local want
        if not family then want = presented == "" and ROTATED or GONE
        elseif family.dead then want = family.dead == presented .. new and "told" or DEAD
        elseif family.last[1] == presented and family.last[2] == new then want = "same"
        elseif presented == "" then want = TAKEN
        elseif presented == family.current then want = ROTATED
        else want = REUSED end
        local before = entry_text(world, name)
        local answer = rotate(world, {name}, {presented, new, text(life)})
        local differs = ("answer %d, the model says %s"):format(answer[1], want)
        assert(answer[1] == (want == "same" and ROTATED or want == "told" and REUSED or want), differs)
        if want == "same" or want == "told" or want == DEAD or want == TAKEN or want == GONE then
          assert(entry_text(world, name) == before, "a refusal changed the key")
        end
        if want == ROTATED then
          family = family or {used = {}, ends = 0}
          if family.current then family.used[#family.used + 1] = family.current end
          family.current, family.last = new, {presented, new}
          model[name] = family
        elseif want == REUSED then
          family.dead, family.last = presented .. new, {presented, new}
          local hash = fake.live(world, name).hash
          assert(hash.dead and not hash.cur, "the family lives on")
        end
        if want == ROTATED or want == REUSED then
          local entry = fake.live(world, name)
          assert(entry.ends >= family.ends and entry.ends >= time + life * MS, "its lifetime is too short")
          family.ends = entry.ends
        end
        codes[want] = (codes[want] or 0) + 1
      end
    end
    for _, code in ipairs {ROTATED, REUSED, DEAD, TAKEN, GONE, "same", "told"} do
      assert.is_true((codes[code] or 0) > STEPS / 1000, code)
    end
  end)
end)

describe("blocklist scripts on a server", function()
  local JTI, SUB, FAM = "redmoon:{t}:b.jti", "redmoon:{s}:b.sub", "redmoon:{f}:b.fam"
  local DAY, HOUR = 86400000, 3600000
  local redis, stop, sha = nil, nil, {}
  setup(function()
    redis, stop = server.start()
    for _, name in ipairs {"revoke", "cutoff", "bump"} do
      sha[name] = redis:call("SCRIPT", "LOAD", scripts.expand_timed("blocklist_" .. name))
    end
    for _, name in ipairs {"rotate", "end_family"} do
      sha[name] = redis:call("SCRIPT", "LOAD", scripts.expand("blocklist_" .. name))
    end
  end)
  teardown(function() stop() end)
  before_each(function() redis:call("FLUSHALL") end)

  local function revoke(now, exp, leeway, reason)
    return redis:call("EVALSHA", sha.revoke, 1, JTI, exp, leeway, reason or "1", now)
  end
  local function cutoff(now, moment, life) return redis:call("EVALSHA", sha.cutoff, 1, SUB, moment, life, now) end
  local function rotate(...) return redis:call("EVALSHA", sha.rotate, 1, FAM, ...) end

  it("revoke keeps the reason for the rest of the life, and a shorter one changes nothing", function()
    local second = START // SECOND
    assert.are.same({REVOKED, 160001}, revoke(START, second + 100, 60000, "logout"))
    assert.are.equal("logout", redis:call("GET", JTI))
    local left = redis:call("PTTL", JTI)
    assert.is_true(left > 100000 and left <= 160001)
    local dump = redis:call("DUMP", JTI)
    assert.are.equal(KEPT, revoke(START, second + 50, 60000, "other")[1])
    assert.are.equal(KEPT, revoke(START, second + 100, 0, "other")[1])
    assert.are.same({EXPIRED, 0}, revoke(START, second - 60, 60000))
    assert.are.same({EXPIRED, 0}, revoke(START, 0, 0))
    assert.are.equal(dump, redis:call("DUMP", JTI))
    assert.is_true(redis:call("PTTL", JTI) > 100001)
    assert.are.same({REVOKED, 1}, (function()
      redis:call("DEL", JTI)
      local answer = revoke(START + 100 * SECOND + 60 * SECOND - 1, second + 100, 60000)
      return {answer[1], answer[2] - 1} -- of its last microsecond, in whole ms
    end)())
  end)

  it("a time that is over 100 years away is refused, as a time in ms would be", function()
    local second = START // SECOND
    assert.are.same({REVOKED, 3155760000001}, revoke(START, second + 3155760000, 0))
    redis:call("DEL", JTI)
    assert.are.same({FAR, 0}, revoke(START, second + 3155760000, 1))
    assert.are.same({FAR, 0}, revoke(START, second * 1000, 0))
    assert.are.same({FAR, 0}, revoke(START, "9007199254740991", 0))
    assert.are.same({FAR, 0, 0}, cutoff(START, START // MS * 1000, DAY))
    assert.are.equal(0, redis:call("DBSIZE"))
  end)

  it("the cutoff and the version share a key that outlives both", function()
    assert.are.same({REVOKED, START // MS, DAY + 1}, cutoff(START + 999, "", DAY))
    assert.are.same({REVOKED, START + 5, DAY + 1}, redis:call("EVALSHA", sha.bump, 1, SUB, DAY, START + 5))
    assert.are.same({REVOKED, START + 6, DAY + 1}, redis:call("EVALSHA", sha.bump, 1, SUB, DAY, START - SECOND))
    local dump = redis:call("DUMP", SUB)
    assert.are.equal(START // MS, cutoff(START, START // MS - 1000, DAY)[2])
    assert.are.same({EXPIRED, 0, 0}, cutoff(START, START // MS - DAY, DAY))
    assert.are.equal(dump, redis:call("DUMP", SUB))
    assert.are.equal(START // MS + 2 * DAY, cutoff(START, START // MS + 2 * DAY, DAY)[2])
    assert.is_true(redis:call("PTTL", SUB) > 3 * DAY - HOUR)
    redis:call("EVALSHA", sha.bump, 1, SUB, DAY, START)
    assert.is_true(redis:call("PTTL", SUB) > 3 * DAY - HOUR)
  end)

  it("bump answers a repeated request with the same version", function()
    local request = SUB .. "+req.a"
    local first = redis:call("EVALSHA", sha.bump, 2, SUB, request, DAY, START)
    local dump = redis:call("DUMP", SUB)
    assert.are.same(first, redis:call("EVALSHA", sha.bump, 2, SUB, request, DAY, START + SECOND))
    assert.are.equal(dump, redis:call("DUMP", SUB))
    assert.is_true(redis:call("PTTL", request) > 300000)
    assert.is_true(redis:call("EVALSHA", sha.bump, 1, SUB, DAY, START + SECOND)[2] > first[2])
  end)

  it("rotate: begin, take turns, repeat, and die by a reuse", function()
    assert.are.same({GONE, 0}, rotate("a", "b", DAY))
    assert.are.equal(0, redis:call("DBSIZE"))
    assert.are.same({ROTATED, DAY + 1}, rotate("", "a", DAY))
    local answer = rotate("a", "b", 1000) -- never shortened
    assert.are.equal(ROTATED, answer[1])
    assert.is_true(answer[2] > DAY // 2)
    local dump = redis:call("DUMP", FAM)
    assert.are.equal(ROTATED, rotate("a", "b", DAY)[1])
    assert.are.equal(TAKEN, rotate("", "x", DAY)[1])
    assert.are.equal(dump, redis:call("DUMP", FAM))
    assert.are.equal(REUSED, rotate("a", "c", 1000)[1])
    assert.are.same({"dead", "ac"}, redis:call("HGETALL", FAM))
    assert.is_true(redis:call("PTTL", FAM) > DAY - HOUR)
    dump = redis:call("DUMP", FAM)
    assert.are.equal(REUSED, rotate("a", "c", 2 * DAY)[1])
    for _, ids in ipairs {{"b", "c"}, {"a", "b"}, {"", "b"}} do
      assert.are.equal(DEAD, rotate(ids[1], ids[2], 2 * DAY)[1])
    end
    assert.are.equal(dump, redis:call("DUMP", FAM))
    assert.is_true(redis:call("PTTL", FAM) <= DAY + 1)
  end)

  it("end_family ends it for the longest life, and a shorter one changes nothing", function()
    local function end_family(life) return redis:call("EVALSHA", sha.end_family, 1, FAM, life) end
    rotate("", "a", 2 * DAY)
    assert.are.equal(REVOKED, end_family(DAY)[1])
    assert.are.same({"dead", "1"}, redis:call("HGETALL", FAM))
    assert.is_true(redis:call("PTTL", FAM) > 2 * DAY - HOUR)
    local dump = redis:call("DUMP", FAM)
    assert.are.equal(KEPT, end_family(DAY)[1])
    assert.are.equal(DEAD, rotate("a", "b", DAY)[1])
    assert.are.equal(dump, redis:call("DUMP", FAM))
    assert.is_true(redis:call("PTTL", FAM) > 2 * DAY - HOUR)
    assert.are.same({REVOKED, 3 * DAY + 1}, end_family(3 * DAY))
    redis:call("DEL", FAM)
    assert.are.same({REVOKED, DAY + 1}, end_family(DAY))
    assert.are.equal(DEAD, rotate("", "a", DAY)[1])
    assert.is_true(redis:call("PTTL", FAM) > DAY - HOUR)
  end)

  it("bad input is refused before anything is written", function()
    for _, bad in ipairs {{"x", 0}, {1.5, 0}, {-1, 0}, {"nan", 0}, {"inf", 0}, {2e9, -1}, {2e9, 600001}, {2e9, 0.5}} do
      assert.is_truthy(revoke(START, bad[1], bad[2]).err:find("integers", 1, true), bad[1] .. " " .. bad[2])
    end
    for _, bad in ipairs {{"x", DAY}, {-1, DAY}, {1.5, DAY}, {"", 0}, {"", "x"}, {"", 3155760600001}} do
      assert.is_truthy(cutoff(START, bad[1], bad[2]).err:find("integers", 1, true), bad[1] .. " " .. bad[2])
    end
    for _, bad in ipairs {0, "x", 1.5} do
      assert.is_truthy(redis:call("EVALSHA", sha.bump, 1, SUB, bad, START).err:find("an integer", 1, true))
      assert.is_truthy(rotate("a", "b", bad).err:find("an integer", 1, true))
      assert.is_truthy(redis:call("EVALSHA", sha.end_family, 1, FAM, bad).err:find("an integer", 1, true))
    end
    assert.is_truthy(rotate("a", "a", DAY).err:find("different ids", 1, true))
    assert.is_truthy(rotate("a", "", DAY).err:find("different ids", 1, true))
    assert.are.equal(0, redis:call("DBSIZE"))
    redis:call("HSET", SUB, "cut", "x", "ver", "1.5")
    assert.is_truthy(cutoff(START, "", DAY).err:find("no cutoff", 1, true))
    assert.is_truthy(redis:call("EVALSHA", sha.bump, 1, SUB, DAY, START).err:find("no version", 1, true))
    assert.are.equal(-1, redis:call("PTTL", SUB))
  end)

  it("a revoked token takes 88 bytes", function()
    local key = "redmoon:{" .. ("h"):rep(22) .. "}:api.jti"
    redis:call("EVALSHA", sha.revoke, 1, key, START // SECOND + 900, 60000, "1", START)
    local bytes = redis:call("MEMORY", "USAGE", key, "SAMPLES", 0)
    print("bytes of a revoked token: " .. bytes)
    assert.is_true(bytes <= 112, bytes)
  end)
end)
