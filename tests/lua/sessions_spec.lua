-- SPDX-License-Identifier: MIT
-- client:sessions: random ids, of which the server has only hashes; rotation, lists, and the end of all of a subject.

local redmoon = require "redmoon"
local helper = require "tests.lua.helper"

local SECRET = "0123456789\0abcdef0123456789"
local FIELDS = { device = "string", visits = "integer" }

local function sessions(client, options)
  options = options or {}
  options.fields = options.fields or FIELDS
  options.secret = options.secret or SECRET
  options.ttl = options.ttl or 100
  return client:sessions("web", options)
end

-- All keys, and all that is in them.
local function contents(client)
  local out = {}
  for _, key in ipairs(client:keys("*")) do
    out[#out + 1] = key
    for _, part in ipairs(client:type(key) == "zset" and client:zrange(key, 0, -1) or {}) do out[#out + 1] = part end
    if client:type(key) == "hash" then
      for name, value in pairs(client:hgetall(key)) do out[#out + 1] = name .. "=" .. value end
    end
  end
  return table.concat(out, "\n")
end

helper.over_each_way(describe, "sessions", function(way)
  local client

  before_each(function()
    client = helper.fresh(way)
  end)
  after_each(function()
    client:close()
  end)

  it("begin under an id that is nowhere on the server, and end", function()
    local web = sessions(client)
    local id = assert(web:create("alice", { device = "phone", visits = 1 }))
    assert.matches("^[%w_-]+%.[%w_-]+$", id)
    assert.equal(66, #id)
    assert.same({ device = "phone", visits = 1 }, (web:load(id)))
    local all = contents(client)
    for at = 1, 36 do assert.is_nil(all:find(id:sub(at, at + 7), 1, true)) end -- nor is any part of it
    assert.is_nil(all:find("alice", 1, true))
    assert.is_true(web:revoke(id))
    assert.equal(1, select("#", web:load(id)))
    assert.is_nil(web:load(id))
    assert.is_false(web:revoke(id))
    assert.is_nil(contents(client):find("device", 1, true))
  end)

  it("are changed by version, and live on", function()
    local web = sessions(client)
    local id = web:create("alice", { visits = 1 })
    local _, version = web:load(id)
    local after = assert(web:update(id, { visits = 2, device = "phone" }, { version = version }))
    local _, detail = helper.assert_failure("CONFLICT", web:update(id, { visits = 3 }, { version = version }))
    assert.equal(after, detail.version)
    assert.is_true(web:update(id, { device = redmoon.null }, { request_id = "r" }) > after)
    local last = select(2, web:load(id))
    web:update(id, { device = "again" }, { request_id = "r" })
    assert.equal(last, select(2, web:load(id)))
    assert.same({ visits = 2 }, (web:load(id)))
    assert.equal(100.0, web:touch(id))
    web:revoke(id)
    assert.is_nil(web:update(id, { visits = 4 }))
    assert.is_nil(web:touch(id))
    assert.is_nil(web:load(id))
  end)

  it("get another id, and the old one is nobody's", function()
    local web = sessions(client)
    local id = web:create("alice", { visits = 7 })
    local _, version = web:load(id)
    local new = assert(web:rotate(id))
    assert.are_not.equal(id, new)
    assert.is_nil(web:load(id))
    assert.is_nil(web:rotate(id))
    local loaded, same = web:load(new)
    assert.same({ visits = 7 }, loaded)
    assert.equal(version, same)
    assert.equal(1, #web:list("alice"))
  end)

  it("are listed by handles, which are no ids, and end all at once", function()
    local web = sessions(client)
    local ids = {}
    for i = 1, 3 do ids[i] = web:create("alice", { visits = i }) end
    local other = web:create("bob", { visits = 9 })
    local list = web:list("alice")
    assert.equal(3, #list)
    local sum = 0
    for _, entry in ipairs(list) do
      assert.is_true(entry.left > 90 and entry.left <= 100)
      assert.is_nil(web:load(entry.handle))
      assert.is_nil(web:touch(entry.handle))
      assert.is_nil(web:rotate(entry.handle))
      sum = sum + web:inspect(entry.handle).visits
    end
    assert.equal(6, sum)
    assert.is_nil(web:inspect(ids[1]))
    assert.is_true(web:revoke_handle(list[1].handle))
    assert.is_false(web:revoke_handle(list[1].handle))
    assert.equal(2, #web:list("alice"))
    local left = web:create("alice", { visits = 4 })
    assert.equal(2, web:revoke_all("alice", left))
    assert.same({ visits = 4 }, (web:load(left)))
    assert.equal(1, web:revoke_all("alice"))
    assert.same({}, web:list("alice"))
    for _, id in ipairs(ids) do
      assert.is_nil(web:load(id))
      assert.is_nil(web:touch(id))
      assert.is_nil(web:rotate(id))
      assert.is_nil(web:update(id, { visits = 1 }))
    end
    assert.is_nil(web:load(left))
    assert.same({ visits = 9 }, (web:load(other)))
    assert.equal(0, web:revoke_all("nobody"))
  end)
end)

describe("sessions", function()
  local client

  before_each(function()
    client = helper.client()
  end)
  after_each(function()
    client:close()
  end)

  it("have no key without a lifetime, whatever was done", function()
    local web = sessions(client)
    local ids = {}
    for i = 1, 5 do ids[i] = web:create("alice", { visits = i }) end
    local function check()
      for _, key in ipairs(client:keys("*")) do assert.is_true(client:pttl(key) > 0, key) end
    end
    check()
    ids[1] = web:rotate(ids[1])
    web:update(ids[1], { visits = 9 }, { request_id = "r" })
    web:touch(ids[2])
    web:revoke(ids[3])
    check()
    web:revoke_all("alice", ids[1])
    check()
    assert.same({ visits = 9 }, (web:load(ids[1])))
  end)

  it("slide, but not beyond their age, and their index lives as long as they do", function()
    local web = sessions(client, { sliding = true, ttl = 100, max_age = 1000 })
    local id = web:create("alice", { visits = 1 })
    local keys = {}
    for _, key in ipairs(client:keys("*")) do keys[client:type(key)] = key end
    client:pexpire(keys.hash, 50000)
    client:pexpire(keys.zset, 50000)
    web:load(id)
    assert.is_true(client:pttl(keys.hash) > 90000)
    assert.is_true(client:pttl(keys.zset) > client:pttl(keys.hash))
    client:pexpire(keys.hash, 95000)
    web:load(id)
    assert.is_true(client:pttl(keys.hash) <= 95000)
    client:pexpire(keys.hash, 50000)
    web:inspect(web:list("alice")[1].handle)
    assert.is_true(client:pttl(keys.hash) <= 50000)
    client:hset(keys.hash, "_c", client:hget(keys.hash, "_c") - 970000)
    web:load(id)
    assert.is_true(client:pttl(keys.hash) <= 30000)
    client:hset(keys.hash, "_c", client:hget(keys.hash, "_c") - 970000)
    assert.is_nil(web:load(id))
    assert.is_nil(web:rotate(id))
    assert.is_nil(web:touch(id))
  end)

  it("of a subject that ended are dropped from its index when another begins", function()
    local web = sessions(client)
    web:create("alice", {})
    local index = client:keys("*.sessions")[1]
    client:zadd(index, 5, "ended")
    assert.equal(1, #web:list("alice"))
    web:create("alice", {})
    assert.equal(2, client:zcard(index))
  end)

  it("are nobody's under a forged or broken id, or under another secret", function()
    local web = sessions(client)
    local id = web:create("alice", { visits = 1 })
    local tail = id:sub(44)
    local flipped = (id:sub(1, 1) == "A" and "B" or "A") .. id:sub(2)
    for _, bad in ipairs { "", "x", flipped, id .. "x", id:sub(1, -2), "\0" .. id:sub(2), ("A"):rep(43) .. tail,
      id:sub(1, 43), id:sub(1, 43) .. ":" .. id:sub(45), ("{"):rep(66), id:upper() .. id:lower() } do
      assert.is_nil(web:load(bad))
      assert.is_false(web:revoke(bad))
      assert.is_nil(web:rotate(bad))
    end
    assert.is_nil(sessions(client, { secret = SECRET .. "x" }):load(id))
    assert.same({ visits = 1 }, (web:load(id)))
    helper.assert_raises("string expected", web.load, web, 5)
  end)

  it("refuse bad options, and never show the secret", function()
    local function try(pattern, options, name)
      local message = helper.assert_raises(pattern, client.sessions, client, name or "web", options)
      assert.is_nil(tostring(message):find("s3cret", 1, true))
    end
    try("option 'secret': a nil", { fields = FIELDS, ttl = 1 })
    try("secret: 6 bytes are not accepted; give 16 to 64", { fields = FIELDS, ttl = 1, secret = "s3cret" })
    try("secret: 66 bytes", { fields = FIELDS, ttl = 1, secret = ("s3cret"):rep(11) })
    try("option ttl is missing", { fields = FIELDS, secret = SECRET })
    try("did you mean 'secret'", { fields = FIELDS, ttl = 1, secrets = SECRET })
    try("sessions name: 31 bytes", { fields = FIELDS, ttl = 1, secret = SECRET }, ("n"):rep(31))
    try("records name", { fields = FIELDS, ttl = 1, secret = SECRET }, "a:b")
    helper.assert_raises("unknown option 'secret'", client.records, client, "r", { fields = FIELDS, secret = SECRET })
    local web = sessions(client)
    helper.assert_raises("did you mean 'visits'", web.create, web, "alice", { visit = 1 })
    helper.assert_failure("CONFIG", web:create("", {}))
    assert.equal(0, client:dbsize())
    assert.is_true(web:close())
    helper.assert_raises("closed", web.load, web, "x")
  end)
end)
