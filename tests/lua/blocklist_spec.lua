-- SPDX-License-Identifier: MIT
-- client:blocklist and redmoon.new_jti.

local redmoon = require "redmoon"
local helper = require "tests.lua.helper"

helper.over_each_way(describe, "a blocklist", function(way)
  local client, now

  before_each(function()
    client = helper.fresh(way)
    now = math.tointeger(client:time()[1])
  end)
  after_each(function()
    client:close()
  end)

  it("revokes a token for the rest of its life", function()
    local list = client:blocklist("api", { issuer = "https://issuer.example" })
    local jti = redmoon.new_jti()
    assert.same({ revoked = false }, list:check { jti = jti, sub = "user", iat = now })
    local result = assert(list:revoke { jti = jti, exp = now + 100 })
    assert.equal("revoked", result.status)
    assert.is_true(result.ttl > 100 and result.ttl <= 160.001)
    assert.equal("kept", list:revoke({ jti = jti, exp = now + 50, reason = "later" }).status)
    assert.same({ status = "expired", ttl = 0.0 }, list:revoke { jti = "b", exp = now - 60 })
    local answer = list:check { jti = jti, sub = "user", iat = now }
    assert.is_true(answer.revoked)
    assert.equal("revoked", answer.reason)
    assert.is_true(answer.ttl > 100 and answer.ttl <= 160.001)
    list:revoke { jti = "c\0{}", exp = now + 100, reason = "logout" }
    assert.equal("logout", list:check({ jti = "c\0{}" }).reason)
    for key in client:scan() do assert.matches("^redmoon:{[%w_-]+}:api%.jti$", key) end
  end)

  it("revokes all tokens of a subject", function()
    local list = client:blocklist("api", { max_life = 3600, leeway = 0 })
    local result = assert(list:revoke_subject("user", { before = now - 10.5 }))
    assert.equal("revoked", result.status)
    assert.equal(now - 10.5, result.cutoff)
    assert.equal("subject", list:check({ sub = "user", iat = now - 11 }).reason)
    assert.equal("subject", list:check({ sub = "user", iat = now - 10.25 }).reason)
    assert.is_false(list:check({ sub = "user", iat = now - 10 }).revoked)
    assert.is_false(list:check({ sub = "other", iat = now - 11 }).revoked)
    assert.is_true(list:revoke_subject("user").cutoff >= now)
    assert.equal("subject", list:check({ sub = "user", iat = now - 10 }).reason)
    assert.same({ status = "expired", ttl = 0.0 }, list:revoke_subject("user", { before = now - 3601 }))
  end)

  it("tells versions apart", function()
    local list = client:blocklist("api")
    local first = assert(list:bump("user", { request_id = "one" }))
    assert.equal("integer", math.type(first))
    assert.equal(first, list:bump("user", { request_id = "one" }))
    assert.equal("version", list:check({ sub = "user", iat = now + 1 }).reason)
    assert.is_false(list:check({ sub = "user", iat = now + 1, ver = first }).revoked)
    assert.is_true(list:bump("user") > first)
    assert.equal("version", list:check({ sub = "user", iat = now + 1, ver = first }).reason)
  end)

  it("rotates refresh tokens, and kills the family of one that is used again", function()
    local list = client:blocklist("api")
    local function rotate(presented, new)
      return assert(list:rotate { family = "login", presented = presented, new = new, ttl = 100 })
    end
    assert.same({ rotated = false, status = "gone", ttl = 0.0 }, rotate("a", "b"))
    local result = rotate(nil, "a")
    assert.is_true(result.rotated)
    assert.equal("rotated", result.status)
    assert.is_true(result.ttl > 100 and result.ttl <= 160.001)
    assert.equal("exists", rotate(nil, "b").status)
    assert.equal("rotated", rotate("a", "b").status)
    assert.equal("rotated", rotate("a", "b").status)
    assert.is_false(list:check({ family = "login" }).revoked)
    assert.equal("reused", rotate("a", "c").status)
    assert.equal("family", list:check({ family = "login", jti = "x" }).reason)
    assert.equal("revoked", rotate("b", "c").status)
  end)

  it("revokes a family by its name", function()
    local list = client:blocklist("api", { max_life = 1000, leeway = 0 })
    list:rotate { family = "login", new = "a", ttl = 100 }
    assert.same({ status = "revoked", ttl = 1000.001 }, list:revoke_family("login"))
    assert.equal("revoked", list:rotate({ family = "login", presented = "a", new = "b", ttl = 100 }).status)
    assert.equal("family", list:check({ family = "login" }).reason)
    assert.equal("revoked", list:revoke_family("unknown").status)
    assert.equal("family", list:check({ family = "unknown" }).reason)
    helper.assert_raises("blocklist family: 0 bytes", function() list:revoke_family("") end)
  end)

  it("says when a revocation is on too few replicas, and keeps it", function()
    local list = client:blocklist("api", { min_replicas = 1 })
    local message, detail = helper.assert_failure("UNAVAILABLE", list:revoke { jti = "a", exp = now + 100 })
    assert.equal("blocklist: it is written and stays so, but it has reached 0 replicas in time, and min_replicas is 1",
      message)
    assert.equal("answered", detail.outcome)
    assert.is_true(detail.retryable)
    assert.is_true(client:blocklist("api"):check { jti = "a" }.revoked)
    assert.is_true(list:check { jti = "a" }.revoked) -- checks wait for nobody
  end)

  it("checks many at once", function()
    local list = client:blocklist("api")
    local claims = {}
    for i = 1, 1000 do claims[i] = { jti = "t" .. i, sub = "user", iat = now } end
    list:revoke { jti = "t7", exp = now + 100, reason = "seven" }
    local results = assert(list:check_many(claims))
    assert.equal(1000, #results)
    for i, result in ipairs(results) do assert.equal(i == 7 and "seven" or nil, result.reason) end
    helper.assert_raises("a list of 1 to 1000 tokens expected", function() list:check_many {} end)
    helper.assert_raises("check_many: place 2 holds a string", function() list:check_many { { jti = "a" }, "b" } end)
  end)

  it("says what it cannot read by on_error", function()
    local list = client:blocklist("api")
    list:revoke { jti = "a", exp = now + 100 }
    for key in client:scan() do
      client:del(key)
      client:rpush(key, "x")
    end
    local answer = list:check { jti = "a" }
    assert.is_true(answer.revoked)
    assert.equal("unavailable", answer.reason)
    assert.equal("WRONGTYPE", answer.code)
    assert.is_string(answer.message)
    local results = list:check_many { { jti = "b" }, { jti = "a" } }
    assert.is_nil(results[1].reason)
    assert.equal("WRONGTYPE", results[2].code)
    answer = client:blocklist("api", { on_error = "allow" }):check { jti = "a" }
    assert.is_false(answer.revoked)
    assert.equal("unavailable", answer.reason)
    helper.assert_failure("WRONGTYPE", client:blocklist("api", { on_error = "error" }):check { jti = "a" })
  end)

  it("raises for what it does not take, and never shows a secret", function()
    local function refuses(pattern, fn)
      local message = helper.assert_raises(pattern, fn)
      assert.is_nil(message:find("secret", 1, true))
      assert.matches("spec.lua:%d+:", message)
    end
    local function option(pattern, options) refuses(pattern, function() client:blocklist("api", options) end) end
    option("option 'hash_key': a number is not accepted; it takes a string of 16 to 64 bytes", { hash_key = 1 })
    option("option hash_key: 6 bytes are not accepted; give 16 to 64", { hash_key = "secret" })
    option("option 'leeway': 601 is not accepted; it takes seconds from 0 to 600", { leeway = 601 })
    option("option 'max_life': 0.5 is not accepted; it takes seconds from 1", { max_life = 0.5 })
    option("option on_error: 'closed' is not accepted; give \"deny\"", { on_error = "closed" })
    option("option 'min_replicas': 1001 is not accepted; it takes an integer from 0 to 1000", { min_replicas = 1001 })
    option("option 'min_replicas': 1.5 is not accepted; it takes an integer from 0 to 1000", { min_replicas = 1.5 })
    option("unknown option 'isuer' %(did you mean 'issuer'%?%)", { isuer = "x" })
    refuses("blocklist name: 'a b' is not accepted", function() client:blocklist("a b") end)
    local list = client:blocklist("api", { hash_key = ("secret"):rep(5) })
    local function revoke(pattern, token) refuses(pattern, function() list:revoke(token) end) end
    revoke("blocklist jti: 0 bytes are not accepted; give 1 to 1024", { exp = now })
    revoke("option 'jti': a number is not accepted; it takes a string", { jti = 5, exp = now })
    revoke("blocklist exp is missing", { jti = "secret" })
    revoke("option 'exp': .* is not accepted; it takes whole seconds since 1970, an integer", { jti = "a", exp = 5.5 })
    revoke("option 'exp': a string is not accepted", { jti = "a", exp = "5" })
    revoke("unknown option 'reson' %(did you mean 'reason'%?%)", { jti = "a", exp = now, reson = "x" })
    revoke("blocklist reason: not accepted", { jti = "a", exp = now, reason = "secret words" })
    local function check(pattern, claims) refuses(pattern, function() list:check(claims) end) end
    check("give one of jti, sub and family at least", {})
    check("sub needs iat", { sub = "secret" })
    check("option 'iat': %-?nan is not accepted", { sub = "a", iat = 0 / 0 })
    check("option 'iat': %-1 is not accepted", { sub = "a", iat = -1 })
    check("unknown option 'jit' %(did you mean 'jti'%?%)", { jit = "a" })
    refuses("it is the id presented", function()
      list:rotate { family = "f", presented = "secret", new = "secret", ttl = 5 }
    end)
    refuses("unknown option 'befor'", function() list:revoke_subject("u", { befor = 1 }) end)
    refuses("request_id: not accepted", function() list:bump("u", { request_id = "secret words" }) end)
    helper.assert_failure("CONFIG", list:revoke { jti = "secret", exp = now * 1000 })
    assert.equal(0, client:dbsize())
    assert.is_nil(tostring(list):find("secret", 1, true))
    assert.is_true(list:close())
    assert.is_true(list:close())
    helper.assert_raises("the blocklist is closed", function() list:check { jti = "a" } end)
  end)
end)

describe("a blocklist without its server", function()
  it("denies unless it was told otherwise, and counts it", function()
    local server = assert(redmoon.embedded())
    local client = assert(server:connect())
    local lists = {}
    for _, word in ipairs { "deny", "allow", "error" } do lists[word] = client:blocklist("api", { on_error = word }) end
    lists.default = client:blocklist("api")
    assert.same({ revoked = false }, lists.default:check { jti = "a" })
    server:close()
    for word, revoked in pairs { default = true, deny = true, allow = false } do
      local answer = assert(lists[word]:check { jti = "a" })
      assert.equal(revoked, answer.revoked)
      assert.equal("unavailable", answer.reason)
      assert.equal("CONNECT", answer.code)
    end
    helper.assert_failure("CONNECT", lists.error:check { jti = "a" })
    helper.assert_failure("CONNECT", lists.deny:revoke { jti = "a", exp = 2000000000 })
    assert.matches('\nredmoon_blocklist_total{result="unavailable"} 4\n', client:metrics())
    client:close()
  end)
end)

describe("blocklist:verify", function()
  it("tells of a server that may evict a revocation", function()
    local config = { "--maxmemory", "1gb", "--maxmemory-policy", "allkeys-lru" }
    local server <close> = assert(redmoon.embedded { config = config })
    local client <close> = assert(server:connect())
    local list <close> = client:blocklist("api")
    local message = helper.assert_failure("UNAVAILABLE", list:verify())
    assert.matches("maxmemory%-policy of the server is allkeys%-lru", message)
    client:config("SET", "maxmemory-policy", "noeviction")
    assert.is_true(list:verify())
  end)
end)

describe("redmoon.new_jti", function()
  it("gives 128 random bits that need no escape", function()
    local seen = {}
    for _ = 1, 1000 do
      local jti = redmoon.new_jti()
      assert.matches("^[%w_-]+$", jti)
      assert.equal(22, #jti)
      assert.is_nil(seen[jti])
      seen[jti] = true
    end
  end)
end)
