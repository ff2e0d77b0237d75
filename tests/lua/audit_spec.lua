-- SPDX-License-Identifier: MIT
-- client:audit, client:audit_fix and client:audit_undo.

local helper = require "tests.lua.helper"

local MIX = [[
for i = 1, 1500 do redis.call("SET", "user:" .. i, ("x"):rep(i % 100)) end
for i = 1, 500 do redis.call("HSET", "sess:" .. i, "f", i) redis.call("PEXPIRE", "sess:" .. i, 1200000) end
redis.call("RPUSH", "list", "a")
return 1]]
local KEYS = 2001

local function fill(client) assert(client:call("EVAL", MIX, 0)) end

local function warned(report, code)
  for _, warning in ipairs(report.warnings) do
    if warning.code == code then return warning end
  end
end

helper.over_each_way(describe, "an audit", function(way)
  local client

  before_each(function()
    client = helper.fresh(way)
    fill(client)
  end)
  after_each(function() client:close() end)

  it("tells of each prefix what there is", function()
    local report = assert(client:audit { sample = 1, require_ttl = true, max_ttl = 600, count = 200 })
    assert.is_true(report.complete)
    assert.is_nil(report.state)
    assert.are.equal(3, #report.prefixes)
    local user, sess, none = table.unpack(report.prefixes)
    assert.are.equal("user", user.prefix)
    assert.are.equal(1500, user.keys)
    assert.are.equal(1500, user.no_ttl)
    assert.are.same({ string = 1500 }, user.types)
    assert.is_nil(user.ttl_p50)
    assert.are.same({}, user.ttl_histogram)
    assert.are.equal(user.bytes, user.bytes_low)
    assert.are.equal("sess", sess.prefix)
    assert.are.equal(500, sess.above_max)
    assert.is_true(sess.ttl_p50 > 1048 and sess.ttl_p50 <= 1200 and sess.ttl_p99 >= sess.ttl_p50)
    assert.are.same({ { from = 1048.576, to = 2097.152, keys = 500 } }, sess.ttl_histogram)
    assert.is_true(sess.max_cliff >= 0.5 and sess.max_cliff <= 1 and sess.max_cliff_error == 0)
    assert.is_true(sess.max_cliff_at % 10 == 0)
    assert.are.equal("", none.prefix)
    assert.are.same({ list = 1 }, none.types)
    assert.are.equal(KEYS, report.total.keys)
    assert.is_nil(report.total.prefix)
    assert.is_nil(report.other)
    assert.are.equal(KEYS, report.server.keys)
    assert.are.equal(KEYS, report.server.keys_end)
    assert.are.equal(500, report.server.expires)
    assert.are.equal("master", report.server.role)
    assert.are.equal(20, report.pool_size)
    local missing = report.warnings[1]
    assert.are.equal("violation", missing.level)
    assert.are.same({ "ttl_above_max", 500, "sess" }, { missing.code, missing.keys, missing.prefix })
    assert.are.equal(1500, warned(report, "ttl_missing").keys)
    assert.is_truthy(warned(report, "memory_unlimited").message:find("1501 keys have no TTL", 1, true))
  end)

  it("is told of as it goes, may be stopped, and goes on from there", function()
    local whole = assert(client:audit { count = 100, depth = 2 })
    local state, report
    local calls = 0
    repeat
      report = assert(client:audit { count = 100, depth = 2, resume = state, on_progress = function(progress, save)
        calls = calls + 1
        assert.is_true(progress.keys > 0 and progress.pages > 0 and progress.rate > 0 and progress.elapsed >= 0)
        assert.is_true(progress.share > 0 and progress.left <= KEYS and progress.pause >= 0)
        assert.are.equal("string", type(save()))
        return calls % 3 ~= 0
      end })
      state = report.state
      assert.are.equal(state == nil, report.complete)
    until report.complete
    assert.is_true(calls > 10)
    assert.are.same(whole.total.types, report.total.types)
    assert.are.equal(#whole.prefixes, #report.prefixes)
    for i, prefix in ipairs(whole.prefixes) do
      for _, name in ipairs { "prefix", "keys", "no_ttl", "bytes", "bytes_low", "bytes_high", "sampled" } do
        assert.are.equal(prefix[name], report.prefixes[i][name])
      end
      assert.are.same(prefix.ttl_histogram, report.prefixes[i].ttl_histogram)
    end
  end)

  it("ends when on_progress raises, and holds no connection after that", function()
    local kept
    local thrown = setmetatable({}, { __tostring = function() return "enough" end })
    local ok, why = pcall(client.audit, client, { count = 10, on_progress = function(progress, save)
      kept = save
      if progress.pages == 3 then error(thrown) end
    end })
    assert.is_false(ok)
    assert.are.equal(thrown, why)
    assert.are.equal(0, client:stats().in_use)
    helper.assert_raises("only while on_progress runs", kept)
    assert.are.equal(KEYS, assert(client:audit()).total.keys)
  end)

  it("may be looked into by another one while it goes, and keys may be written", function()
    local inner
    local other <close> = helper.connect(way, { loop = "blocking" }) -- on_progress must not yield
    local report = assert(client:audit { count = 100, on_progress = function()
      inner = inner or assert(other:audit { match = "sess:*", sample = 0 })
      assert(other:set("user:1", "v"))
    end })
    assert.are.equal(500, inner.total.keys)
    assert.is_nil(inner.total.bytes)
    assert.are.equal(KEYS, report.total.keys)
  end)

  it("fixes what has no TTL, and undoes it", function()
    local plan = assert(client:audit_fix { match = "user:*", ttl = 600 })
    assert.are.equal(1500, plan.fixed)
    assert.are.equal(1500, #plan.keys)
    assert.is_nil(plan.keys[1].expires)
    assert.are.equal(-1, client:pttl(plan.keys[1].key))
    local calls, listed = 0, {}
    local done = assert(client:audit_fix { match = "*", ttl = 600, jitter = 0.5, dry_run = false, count = 100,
      on_fixed = function(fixed) listed[#listed + 1] = fixed end,
      on_progress = function(counts)
        calls = calls + 1
        assert.are.equal(#listed, counts.fixed)
      end })
    assert.is_true(done.complete and calls > 10)
    assert.are.same({ 1501, KEYS, 0, 0, 0, 1 },
      { done.fixed, done.seen, done.own, done.raced, done.errors, done.share })
    assert.is_nil(done.keys)
    assert.are.equal(1501, #listed)
    local report = assert(client:audit())
    assert.are.equal(0, report.total.no_ttl)
    assert.is_true(report.total.ttl_max <= 1200)
    for i = 1, 20 do
      local one = listed[i]
      assert.is_true(one.ttl >= 600 and one.ttl <= 900)
      assert.is_true(client:audit_undo(one.key, one.expires))
      assert.are.equal(-1, client:pttl(one.key))
      assert.is_false(client:audit_undo(one.key, one.expires))
    end
    assert.is_false(client:audit_undo(listed[21].key, listed[21].expires + 100))
  end)

  it("stops a fix when it is told to", function()
    local done = assert(client:audit_fix { match = "*", ttl = 600, dry_run = false, count = 100,
      on_progress = function() return false end })
    assert.is_false(done.complete)
    assert.are.equal(#done.keys, done.fixed)
    assert.are.equal(1501 - done.fixed, assert(client:audit()).total.no_ttl)
  end)
end)

describe("an audit", function()
  it("that is interrupted by a failure says where to go on", function()
    local server = assert(helper.embedded())
    local client = assert(server:connect { max_retries = 0 })
    fill(client)
    local pages, first = 0, nil
    local _, detail = helper.assert_failure("CONNECT", client:audit { count = 100, on_progress = function(progress)
      pages, first = progress.pages, progress.keys
      if pages == 4 then server:close() end
    end })
    assert.are.equal("string", type(detail.state))
    assert.is_true(first > 0)
    helper.assert_failure("CONNECT", client:audit())
    client:close()
    -- Another server with the same keys: it goes on, and says that it was another one.
    local other = helper.client()
    fill(other)
    local report = assert(other:audit { resume = detail.state })
    assert.is_true(report.complete and report.pages > 4)
    assert.are.equal("warning", warned(report, "node_changed").level)
    other:close()
  end)

  it("refuses what it does not know or cannot do, at the caller's line", function()
    local client = helper.client()
    local function refused(pattern, options)
      assert.is_truthy(helper.assert_raises(pattern, client.audit, client, options))
    end
    refused("did you mean 'depth'", { dept = 1 })
    refused("'depth': 9 is not accepted", { depth = 9 })
    refused("'sample': 1.5 is not accepted", { sample = 1.5 })
    refused("'sample': string is not accepted", { sample = "all" })
    refused("'on_progress': a number is not accepted", { on_progress = 1 })
    refused("'resume': a boolean is not accepted", { resume = true })
    refused("'min_ttl' must not exceed 'max_ttl'", { min_ttl = 2, max_ttl = 1 })
    refused("'separator'", { separator = "ab" })
    refused("'filter_size'", { filter_size = 5 })
    helper.assert_failure("CODEC", client:audit { resume = "RMAUDIT1 nonsense" })
    local function unfixed(pattern, options) helper.assert_raises(pattern, client.audit_fix, client, options) end
    unfixed("'match' is needed", { ttl = 1 })
    unfixed("'ttl' is needed", { match = "a:*" })
    unfixed("'ttl': 0.5 is not accepted", { match = "a:*", ttl = 0.5 })
    unfixed("'jitter': 2 is not accepted", { match = "a:*", ttl = 1, jitter = 2 })
    unfixed("'on_fixed': a table is not accepted", { match = "a:*", ttl = 1, on_fixed = {} })
    helper.assert_raises("the Unix time", client.audit_undo, client, "k", 0)
    client:close()
    helper.assert_failure("CLOSED", client:audit())
    helper.assert_failure("CLOSED", client:audit_fix { match = "a:*", ttl = 1 })
    helper.assert_failure("CLOSED", client:audit_undo("k", 1))
  end)

  it("is resumed only with the options it was begun with", function()
    local client = helper.client()
    fill(client)
    local state = assert(client:audit { match = "user:*", depth = 2, count = 100,
      on_progress = function() return false end }).state
    helper.assert_raises("'depth': the audit to be resumed", client.audit, client, { resume = state, depth = 3 })
    helper.assert_raises("'match': the audit to be resumed", client.audit, client, { resume = state, match = "*" })
    local report = assert(client:audit { resume = state, match = "user:*", count = 50 })
    assert.are.equal(1500, report.total.keys)
    helper.assert_failure("CODEC", client:audit { resume = state:sub(1, -2) })
    client:close()
  end)

  it("of an empty database is a report", function()
    local client = helper.client()
    local report = assert(client:audit { sample = 1 })
    assert.are.same({}, report.prefixes)
    assert.are.same({}, report.warnings)
    assert.are.same({ 0, 0, 0 }, { report.total.keys, report.total.no_ttl, report.total.bytes })
    assert.is_true(report.complete)
    client:close()
  end)

  it("of a cluster's node counts keys to tell how far it is", function()
    local server = helper.cluster_node()
    local client = assert(server:connect())
    for slot = 0, 16383, 1024 do
      local slots = {}
      for i = slot, slot + 1023 do slots[#slots + 1] = i end
      assert(client:cluster("ADDSLOTS", table.unpack(slots)))
    end
    helper.eventually(client, "the cluster is up", function()
      return client:cluster("INFO"):find("cluster_state:ok", 1, true)
    end)
    assert(client:pipeline(function(p) for i = 1, 3000 do p:set("user:" .. i, "v") end end))
    local last, pages = 0, 0
    local report = assert(client:audit { count = 100, on_progress = function(progress)
      pages = pages + 1
      assert.is_true(progress.share >= last and (progress.share <= 0.99 or progress.keys == 3000))
      assert.is_true(math.abs(progress.share - progress.keys / 3000) < 0.02)
      last = progress.share
    end })
    assert.is_true(pages > 5)
    assert.are.equal(3000, report.total.keys)
    client:close()
    server:close()
  end)

  it("goes on when its client is closed in its midst", function()
    local client = helper.client()
    fill(client)
    local report = assert(client:audit { count = 100, on_progress = function() client:close() end })
    assert.are.equal(KEYS, report.total.keys)
  end)

  it("lets a fix be found out to be of keys of its own", function()
    local client = helper.client()
    assert(client:set("redmoon:{r}:guard", 1))
    assert(client:set("redmoon:plain", 1))
    local plan = assert(client:audit_fix { match = "redmoon:*", ttl = 60 })
    assert.are.same({ 1, 1 }, { plan.own, plan.fixed })
    assert.are.equal("redmoon:plain", plan.keys[1].key)
    client:close()
    local other = assert(helper.server():connect { key_prefix = "other" })
    assert.are.equal(2, assert(other:audit_fix { match = "redmoon:*", ttl = 60 }).fixed)
    other:close()
  end)
end)
