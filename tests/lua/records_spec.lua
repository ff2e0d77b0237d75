-- SPDX-License-Identifier: MIT
-- client:records: types, versions, lifetimes, and what is refused.

local redmoon = require "redmoon"
local helper = require "tests.lua.helper"

local KEY = "redmoon:{1}:session.record"
local FIELDS = { user_id = "string", visits = "integer", score = "number", admin = "boolean", created_at = "time" }

local function records(client, options)
  options = options or {}
  options.fields = options.fields or FIELDS
  return client:records("session", options)
end

helper.over_each_way(describe, "records", function(way)
  local client

  before_each(function()
    client = helper.fresh(way)
  end)
  after_each(function()
    client:close()
  end)

  it("are saved and loaded with their types", function()
    local sessions = records(client, { ttl = 60 })
    local saved = { user_id = "u\0\r\n\255", visits = 3, score = 0.1, admin = false, created_at = 1760000000.123456 }
    local version = assert(sessions:save(1, saved))
    assert.equal("integer", math.type(version))
    local loaded, seen = sessions:load(1)
    assert.same(saved, loaded)
    assert.equal(version, seen)
    assert.equal("integer", math.type(loaded.visits))
    assert.equal("float", math.type(loaded.score))
    assert.same({ visits = 3 }, (sessions:load(1, { "visits" })))
    assert.same({}, (sessions:load(1, {})))
  end)

  it("tell a missing record, a missing field and an empty string apart", function()
    local sessions = records(client)
    assert.equal(1, select("#", sessions:load(1)))
    assert.is_nil(sessions:load(1))
    sessions:save(1, { user_id = "" })
    assert.same({ user_id = "" }, (sessions:load(1)))
    sessions:save(1, {})
    assert.same({}, (sessions:load(1)))
    assert.is_true(sessions:delete(1))
    assert.is_nil(sessions:load(1))
    assert.is_false(sessions:delete(1))
  end)

  it("are replaced by save, and changed by update", function()
    local sessions = records(client)
    local first = sessions:save(1, { user_id = "a", visits = 1, admin = true })
    local second = sessions:update(1, { visits = 2, admin = redmoon.null })
    assert.is_true(second > first)
    assert.same({ user_id = "a", visits = 2 }, (sessions:load(1)))
    sessions:save(1, { visits = 9, user_id = redmoon.null })
    assert.same({ visits = 9 }, (sessions:load(1)))
    assert.equal(1, select("#", sessions:update(2, { visits = 1 })))
    assert.is_nil(sessions:update(2, { visits = 1 }))
    assert.is_nil(sessions:load(2))
  end)

  it("are written only in the version that is asked for", function()
    local sessions = records(client)
    local first = assert(sessions:save(1, { visits = 1 }, { version = 0 }))
    local second = assert(sessions:update(1, { visits = 2 }, { version = first }))
    local dump = client:dump(KEY)
    local _, detail = helper.assert_failure("CONFLICT", sessions:update(1, { visits = 3 }, { version = first }))
    assert.equal(second, detail.version)
    assert.equal("answered", detail.outcome)
    _, detail = helper.assert_failure("CONFLICT", sessions:save(1, {}, { version = 0 }))
    assert.equal(second, detail.version)
    assert.equal(dump, client:dump(KEY))
    _, detail = helper.assert_failure("CONFLICT", sessions:update(2, { visits = 3 }, { version = first }))
    assert.equal(0, detail.version)
  end)

  it("count exactly, and not beyond their range", function()
    local sessions = records(client)
    assert.equal(1, select("#", sessions:increment(1, "visits")))
    assert.is_nil(sessions:increment(1, "visits"))
    sessions:save(1, {})
    assert.equal(1, (sessions:increment(1, "visits")))
    assert.equal(math.maxinteger, (sessions:increment(1, "visits", math.maxinteger - 1)))
    local dump = client:dump(KEY)
    local message = helper.assert_failure("CODEC", sessions:increment(1, "visits"))
    assert.matches("field 'visits': the sum is out of range", message)
    assert.equal(dump, client:dump(KEY))
    sessions:save(1, { score = 1e-20 })
    assert.equal(2e-20, (sessions:increment(1, "score", 1e-20)))
    assert.equal(1.5, (sessions:increment(1, "score", 1.5)))
    assert.same({ score = 1.5 }, (sessions:load(1)))
  end)

  it("do a request once", function()
    local sessions = records(client, { ttl = 60 })
    sessions:save(1, { visits = 1 })
    local sum, version = sessions:increment(1, "visits", 5, { request_id = "r1" })
    assert.equal(6, sum)
    local again, same = sessions:increment(1, "visits", 5, { request_id = "r1" })
    assert.equal(6, again)
    assert.equal(version, same)
    local after = sessions:update(1, { visits = 7 }, { request_id = "r2" })
    assert.equal(after, sessions:update(1, { visits = 7 }, { request_id = "r2" }))
  end)

  it("live as long as their options say", function()
    records(client):save(1, { visits = 1 })
    assert.equal(-1, client:pttl(KEY))
    assert.equal(math.huge, records(client):touch(1))
    local sessions = records(client, { ttl = 100 })
    sessions:save(1, { visits = 1 })
    client:pexpire(KEY, 50000)
    sessions:load(1)
    assert.is_true(client:pttl(KEY) <= 50000)
    sessions:update(1, { visits = 2 })
    assert.is_true(client:pttl(KEY) > 90000)
    client:pexpire(KEY, 50000)
    local left = sessions:touch(1)
    assert.equal(100.0, left)
    assert.is_true(client:pttl(KEY) > 90000)
    assert.is_nil(sessions:touch(2))
    client:pexpire(KEY, 50000)
    records(client, { ttl = 100, keep_ttl = true }):update(1, { visits = 3 })
    assert.is_true(client:pttl(KEY) <= 50000)
    records(client, { ttl = 100, sliding = true }):load(1)
    assert.is_true(client:pttl(KEY) > 90000)
    client:pexpire(KEY, 95000)
    records(client, { ttl = 100, sliding = true }):load(1)
    assert.is_true(client:pttl(KEY) <= 95000)
    records(client, { ttl = 100, max_age = 30 }):update(1, { visits = 4 })
    assert.is_true(client:pttl(KEY) <= 30000)
  end)
end)

describe("records", function()
  local client

  before_each(function()
    client = helper.client()
  end)
  after_each(function()
    client:close()
  end)

  it("keep every value of their types", function()
    local values = records(client)
    for _, v in ipairs { 0, -1, math.maxinteger, math.mininteger, 2 ^ 53 | 0 } do
      values:save(1, { visits = v })
      assert.equal(v, values:load(1).visits)
    end
    for _, v in ipairs { 0.0, 0.1, 1e308, -1e308, 5e-324, 1 / 3, 1e15, 2.0 ^ 63, 123456789012345680.0 } do
      values:save(1, { score = v })
      assert.equal(v, values:load(1).score)
    end
    values:save(1, { score = -0.0 })
    assert.equal(-math.huge, 1 / values:load(1).score)
    for _, v in ipairs { 0, -1.5, 1760000000, 1760000000.000001, 9007199253.5 } do
      values:save(1, { created_at = v })
      assert.equal(v, values:load(1).created_at)
    end
    for _, v in ipairs { "", "\0", ("x"):rep(100000) } do
      values:save(1, { user_id = v })
      assert.equal(v, values:load(1).user_id)
    end
    values:save(1, { visits = 3.0, score = 3 })
    assert.same({ visits = 3, score = 3.0 }, (values:load(1)))
  end)

  it("say which stored value is not of its type, and never what it is", function()
    local sessions = records(client)
    local bad = {
      visits = { "secret", "", " 1", "1 ", "01", "+1", "0x10", "1.0", "9223372036854775808", "-9223372036854775809" },
      score = { "secret", "", "inf", "nan", "0x1p3", "1,5", "1e999", " 1", ("1"):rep(500) },
      admin = { "secret", "", "true", "2", "00" },
      created_at = { "secret", "", "1.5", "9007199254740992" },
    }
    for field, texts in pairs(bad) do
      for _, text in ipairs(texts) do
        sessions:save(1, {})
        client:hset(KEY, field, text)
        local message, detail = helper.assert_failure("CODEC", sessions:load(1))
        assert.matches("field '" .. field .. "': what is stored is no ", message)
        assert.is_nil(message:find("secret", 1, true))
        assert.equal("answered", detail.outcome)
        assert.same({}, (sessions:load(1, { "user_id" })))
      end
    end
    sessions:save(1, {})
    client:hset(KEY, "visits", "secret")
    helper.assert_failure("CODEC", sessions:increment(1, "visits"))
  end)

  it("refuse bad values and unknown fields before anything is sent", function()
    local sessions = records(client)
    local raises = helper.assert_raises
    raises("field 'visits': a string is not accepted; it takes a 64%-bit integer", sessions.save, sessions, 1,
      { visits = "1" })
    raises("field 'visits': a number", sessions.save, sessions, 1, { visits = 1.5 })
    raises("field 'score': a number is not accepted; it takes a finite number", sessions.save, sessions, 1,
      { score = 1 / 0 })
    raises("field 'score'", sessions.update, sessions, 1, { score = 0 / 0 })
    raises("field 'admin'", sessions.save, sessions, 1, { admin = 1 })
    raises("field 'user_id'", sessions.save, sessions, 1, { user_id = 1 })
    raises("field 'created_at'", sessions.save, sessions, 1, { created_at = 1e300 })
    raises("unknown field 'visit' %(did you mean 'visits'%?%)", sessions.save, sessions, 1, { visit = 1 })
    raises("unknown field '_v'", sessions.save, sessions, 1, { _v = 1 })
    raises("unknown field", sessions.save, sessions, 1, { visits = 1, ["visits\0a"] = 1, ["visits\0b"] = 1 })
    raises("given by name", sessions.save, sessions, 1, { 1 })
    raises("did you mean 'score'", sessions.load, sessions, 1, { "scare" })
    raises("fields%[1%]", sessions.load, sessions, 1, { 1 })
    raises("type integer or number", sessions.increment, sessions, 1, "user_id")
    raises("field 'visits'", sessions.increment, sessions, 1, "visits", 0.5)
    raises("option 'version'", sessions.update, sessions, 1, {}, { version = -1 })
    raises("did you mean 'version'", sessions.update, sessions, 1, {}, { versoin = 1 })
    helper.assert_failure("CONFIG", sessions:update(1, {}, { request_id = "a b" }))
    helper.assert_failure("CONFIG", sessions:save("", {}))
    helper.assert_failure("TOO_LARGE", records(client, { max_value_size = 3 }):save(1, { user_id = "four" }))
    assert.equal(0, client:dbsize())
  end)

  it("refuse a bad schema and bad options", function()
    local function try(pattern, options, name)
      helper.assert_raises(pattern, client.records, client, name or "session", options)
    end
    try("option 'fields'", {})
    try("0 are not accepted; give 1 to 1000", { fields = {} })
    try("not '_' first", { fields = { _v = "string" } })
    try("'a b' is not accepted", { fields = { ["a b"] = "string" } })
    try("unknown type 'strin' %(did you mean 'string'%?%)", { fields = { a = "strin" } })
    try("needs the name of a type", { fields = { a = 1 } })
    try("names expected", { fields = { "string" } })
    try("did you mean 'sliding'", { fields = FIELDS, slidin = true })
    try("sliding: it needs the option ttl", { fields = FIELDS, sliding = true })
    try("one excludes the other", { fields = FIELDS, ttl = 1, sliding = true, keep_ttl = true })
    try("option 'ttl'", { fields = FIELDS, ttl = 0 })
    try("records name", { fields = FIELDS }, "a:b")
    local many = {}
    for i = 1, 1001 do many["f" .. i] = "integer" end
    try("1001 are not accepted", { fields = many })
    many.f1001 = nil
    local wide = records(client, { fields = many })
    local values = {}
    for name in pairs(many) do values[name] = #name end
    assert(wide:save(1, values))
    assert.same(values, (wide:load(1)))
  end)

  it("end with close, and not before", function()
    local sessions = records(client)
    client:close()
    assert(sessions:save(1, {}))
    assert.is_true(sessions:close())
    assert.is_true(sessions:close())
    helper.assert_raises("closed", sessions.load, sessions, 1)
    helper.assert_failure("CLOSED", records(client))
    client = helper.client()
  end)

  it("are each written by one command, which sets fields and lifetime together", function()
    local sessions = records(client, { ttl = 60 })
    sessions:save(1, { visits = 1 })
    client:config("RESETSTAT")
    sessions:save(1, { visits = 1 })
    sessions:update(1, { visits = 2 })
    sessions:increment(1, "visits")
    assert.equal(3, helper.calls(client, "evalsha"))
    -- What the script calls is counted as well; nothing else was sent by the client.
    assert.equal(0, helper.calls(client, "multi"))
    assert.is_true(client:pttl(KEY) > 50000)
  end)
end)
