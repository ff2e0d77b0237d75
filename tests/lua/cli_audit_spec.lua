-- SPDX-License-Identifier: MIT
-- redmoon audit, fix and undo.

local cli = require "tests.lua.cli_process"
local helper = require "tests.lua.helper"

local run = cli.run

describe("redmoon audit", function()
  local client
  local url = function() return helper.server().url end

  -- n keys <prefix>:<i>; ttl in seconds, or nil.
  local function fill(prefix, n, ttl)
    assert(client:pipeline(function(p)
      for i = 1, n do p:set(prefix .. ":" .. i, "value", { ttl = ttl or false }) end
    end))
  end

  local function audit(...) return run { "audit", "--url", url(), ... } end

  -- prefix -> keys, keys without TTL, of the table.
  local function rows_of(text)
    local rows = {}
    for name, keys, no_ttl in text:gmatch("\n(%S+) +([%d,]+) +([%d,]+) ") do
      rows[name] = { tonumber((keys:gsub(",", ""))), tonumber((no_ttl:gsub(",", ""))) }
    end
    return rows
  end

  setup(function() client = helper.client() end)
  teardown(function() client:close() end)
  before_each(function() assert(client:flushall()) end)

  it("of an empty database is clean", function()
    local result = audit()
    assert.equal(0, result.status, result.err)
    assert.equal("", result.err)
    assert.matches("\nThere are no keys%.\n", result.out)
    assert.matches('"prefixes": %[%]', audit("--json").out)
    assert.matches("\n# EOF\n$", audit("--prometheus").out)
  end)

  it("shows keys, lifetimes and cliffs by prefix", function()
    fill("user", 30)
    local ends = (client:time()[1] + 3600) // 10 * 10 + 5 -- all in one of the audit's 10 seconds
    assert(client:pipeline(function(p)
      for i = 1, 1200 do p:call("SET", "session:" .. i, "value", "EXAT", ends) end
    end))
    client:set("plain", "x", { ttl = 10000 })
    local result = audit()
    assert.equal(0, result.status, result.err)
    local rows = rows_of(result.out)
    assert.same({ 30, 30 }, rows.user)
    assert.same({ 1200, 0 }, rows.session)
    assert.same({ 1, 0 }, rows["(none)"])
    assert.same({ 1231, 30 }, rows["(all)"])
    assert.matches("\n34m 57s to 1h 9m +[\x80-\xff]+ +1,200\n", result.out)
    assert.matches("\nno TTL +[\x80-\xff]+ +30\n", result.out)
    assert.matches("\nsession +[\x80-\xff]+ +1,200 keys %(100 %%%) at %d+%-%d%d%-%d%d %d%d:%d%d:%d%d UTC\n", result.out)
    assert.matches("\nwarning +session: 1200 of 1200 keys expire within the same 10 s", result.out)
    assert.equal(1, audit("--strict").status)
    local plain = run({ "audit", "--url", url() }, { env = { LC_ALL = "C" } })
    assert.matches("\n34m 57s to 1h 9m +#+ +1,200\n", plain.out)
    assert.is_nil(plain.out:find("[\x80-\xff]"))
  end)

  it("looks deeper, at fewer, and by another separator", function()
    fill("a:b", 10)
    fill("a:c", 5)
    fill("z", 7)
    assert.same({ 10, 10 }, rows_of(audit("--depth", "2").out)["a:b"])
    assert.is_nil(rows_of(audit("--match", "a:*").out).z)
    assert.same({ 22, 22 }, rows_of(audit("--separator", "/").out)["(none)"])
    assert.same({ 7, 7 }, rows_of(audit("--top", "1").out)["(other)"])
    assert.matches("\nz +7 +7 +%- ", audit("--sample", "0").out)
  end)

  it("fails on what the policy forbids", function()
    fill("user", 3)
    fill("short", 3, 10)
    fill("long", 3, 100000)
    assert.equal(0, audit().status)
    for words, seen in pairs { [{ "--require-ttl" }] = "user: 3 of 3 keys have no TTL",
      [{ "--min-ttl", "1m" }] = "short: ", [{ "--max-ttl", "1d" }] = "long: " } do
      local result = audit(table.unpack(words))
      assert.equal(1, result.status)
      assert.is_truthy(result.out:find("violation " .. seen, 1, true), result.out)
    end
    assert.equal(0, audit("--match", "short:*", "--require-ttl", "--max-ttl", "1h").status)
    assert.equal(1, audit("--require-ttl", "--json").status)
  end)

  it("prints JSON", function()
    fill("user", 3)
    client:set("odd\xff\27:1", "x")
    local result = audit("--json")
    assert.equal("", result.err)
    assert.matches("^{\n.*\n}\n$", result.out)
    assert.matches('"complete": true', result.out)
    assert.matches('"keys": 3,.-"prefix": "user"', result.out)
    assert.is_truthy(result.out:find([["prefix": "odd\\xff\\x1b"]], 1, true), result.out)
    assert.is_nil(result.out:gsub("\n", ""):find("[%c\x80-\xff]"))
  end)

  it("prints OpenMetrics", function()
    fill("user", 3)
    fill("session", 2, 600)
    client:set('o"d\\d\27:1', "x")
    local result = audit("--prometheus", "--require-ttl")
    assert.equal(1, result.status)
    for _, line in ipairs { 'redmoon_audit_keys{prefix="user"} 3', 'redmoon_audit_keys_without_ttl{prefix="session"} 0',
      'redmoon_audit_keys_by_ttl{le="+Inf"} 2', 'redmoon_audit_findings{level="violation"} 2', "redmoon_audit_complete 1",
      [[redmoon_audit_keys{prefix="o\"d\\d\\x1b"} 1]] } do
      assert.is_truthy(result.out:find("\n" .. line .. "\n", 1, true), line .. " in\n" .. result.out)
    end
    local seen = {}
    for line in result.out:gmatch("[^\n]+") do
      local family = line:match("^# TYPE (%S+) gauge$")
      if family then
        assert.is_nil(seen[family])
        seen[family] = true
      elseif not line:find("^#") then
        assert.is_true(seen[line:match("^[%l%d_]+")], line)
      end
    end
    assert.equal(2, audit("--prometheus", "--json").status)
  end)

  it("draws its progress on a terminal, and writes lines elsewhere", function()
    fill("k", 5000)
    local shown = cli.run_in_terminal { "audit", "--url", url(), "--max-rate", "20000" }
    assert.matches("\r *%d+%% \27%[36m[^\r]*[%d,]+ of [%d,]+ keys, [%d,]+/s", shown.out)
    assert.matches("\r\27%[K", shown.out)
    assert.equal(0, shown.status)
    assert.is_nil(cli.run_in_terminal({ "audit", "--url", url(), "--quiet" }).out:find("keys, ", 1, true))
    local dumb = cli.run_in_terminal({ "audit", "--url", url(), "--max-rate", "20000" }, { env = { TERM = "dumb" } })
    assert.is_nil(dumb.out:find("\27", 1, true))
    assert.is_nil(audit("--max-rate", "20000").err:find("[\r\27]"))
  end)

  describe("that is interrupted", function()
    -- Interrupts it when some pages were read.
    local function interrupted(...)
      assert(client:call("CONFIG", "RESETSTAT"))
      local pid, file = cli.start { "audit", "--url", url(), "--max-rate", "4000", ... }
      helper.eventually(client, "two pages", function()
        return tonumber((client:info("commandstats") or ""):match("cmdstat_scan:calls=(%d+)") or 0) >= 2
      end)
      return cli.finish(pid, file, "INT")
    end

    before_each(function()
      fill("user", 4000)
      fill("session", 4000, 3600)
    end)

    it("says how to go on, and comes to the same", function()
      local state = cli.path "audit.state"
      os.remove(state)
      local result = interrupted("--resume", state)
      assert.equal(130, result.status, result.err)
      assert.is_truthy(result.err:find("To go on: redmoon audit --resume " .. state, 1, true))
      assert.matches("not to the end", result.out)
      assert.is_true(rows_of(result.out)["(all)"][1] < 8000)
      local whole = audit("--resume", state)
      assert.equal(0, whole.status, whole.err)
      assert.same({ user = { 4000, 4000 }, session = { 4000, 0 }, ["(all)"] = { 8000, 4000 } }, rows_of(whole.out))
      assert.is_nil(io.open(state))
    end)

    it("keeps its state where it was told nothing, too", function()
      local result = interrupted("--require-ttl")
      assert.equal(130, result.status)
      local state = result.err:match("redmoon audit %-%-resume (%S+)")
      local whole = audit("--resume", state)
      assert.equal(1, whole.status) -- the policy is the state's
      assert.equal(8000, rows_of(whole.out)["(all)"][1])
    end)

    it("is not gone on with by other options", function()
      local state = cli.path "other.state"
      os.remove(state)
      interrupted("--resume", state)
      local result = audit("--resume", state, "--depth", "2")
      assert.equal(2, result.status)
      assert.matches("^redmoon: [^\n]*depth[^\n]*another value\n$", result.err)
    end)
  end)

  it("needs no more of the server than its rule says", function()
    fill("user", 3)
    local rule = cli.read("docs/acl.md"):match("\n## Audit\n\n```\n([^\n]+)\n")
    local words = {}
    for word in rule:gmatch("%S+") do words[#words + 1] = word end
    assert(client:acl("SETUSER", "auditor", "reset", "on", ">pw", "-@all", "~*", table.unpack(words)))
    local result = run { "audit", "--url", (url():gsub("//", "//auditor:pw@", 1)) }
    assert(client:acl("DELUSER", "auditor"))
    assert.equal(0, result.status, result.err)
    assert.same({ 3, 3 }, rows_of(result.out).user)
  end)

  it("refuses a state that is none", function()
    local path = cli.path "none.state"
    local file <close> = assert(io.open(path, "w"))
    file:write("not a state")
    file:close()
    local result = audit("--resume", path)
    assert.equal(2, result.status)
    assert.equal(1, select(2, result.err:gsub("\n", "")))
    assert.equal(2, audit("--resume", "/no/such/folder/state", "--max-rate", "1").status)
  end)

  describe("fix", function()
    local log
    local function fix(...) return run { "audit", "fix", "--url", url(), ... } end

    before_each(function()
      log = cli.path "undo.log"
      os.remove(log)
      fill("tmp", 20)
      fill("kept", 5)
      client:set("tmp:has", "x", { ttl = 50 })
      client:set("tmp:odd\\x41\n\xff", "x")
    end)

    it("only shows what it would do", function()
      local result = fix("--match", "tmp:*", "--ttl", "1h")
      assert.equal(0, result.status, result.err)
      assert.matches("22 keys looked at: 21 would get a TTL", result.out)
      assert.matches("Nothing was changed: %-%-apply does it", result.out)
      assert.equal(-1, client:ttl("tmp:1"))
    end)

    it("needs a pattern, a TTL and an undo log", function()
      assert.matches("missing option '%-%-match'", fix("--ttl", "1h").err)
      assert.matches("missing option '%-%-ttl'", fix("--match", "x").err)
      assert.matches("%-%-ttl: a duration .* got '0'", fix("--match", "x", "--ttl", "0").err)
      assert.equal("redmoon: audit fix takes no option '--min-ttl'\n",
        fix("--match", "x", "--ttl", "1h", "--min-ttl", "1m").err)
      local result = fix("--match", "tmp:*", "--ttl", "1h", "--apply", "--yes")
      assert.equal(2, result.status)
      assert.matches("%-%-undo%-log", result.err)
      assert.equal(-1, client:ttl("tmp:1"))
    end)

    it("asks, then changes, and can be undone", function()
      local words = { "--match", "tmp:*", "--ttl", "1h", "--jitter", "50", "--apply", "--undo-log", log }
      local refused = fix(table.unpack(words))
      assert.equal(2, refused.status)
      assert.matches("%-%-yes does it\n$", refused.err)
      assert.equal(-1, client:ttl("tmp:1"))
      words[#words + 1] = "--yes"
      local result = fix(table.unpack(words))
      assert.equal(0, result.status, result.err)
      assert.matches("every key of 'tmp:%*' that has no TTL gets one of 1h, and up to 50 %% more", result.err)
      assert.matches("22 keys looked at: 21 got a TTL", result.out)
      for i = 1, 20 do
        local ttl = client:ttl("tmp:" .. i)
        assert.is_true(ttl > 3500 and ttl <= 5400, ttl)
      end
      assert.is_true(client:ttl("tmp:has") <= 50)
      assert.equal(-1, client:ttl("kept:1"))
      assert.equal(22, select(2, cli.read(log):gsub("\n", "")))

      assert(client:expire("tmp:7", 100)) -- somebody else, meanwhile
      assert(client:del("tmp:8"))
      assert.equal(2, run({ "audit", "undo", "--url", url(), log }).status)
      local undone = run { "audit", "undo", "--url", url(), "--yes", log }
      assert.equal(0, undone.status, undone.err)
      assert.matches("19 undone, 2 left as they are", undone.out)
      assert.equal(-1, client:ttl("tmp:1"))
      assert.equal(-1, client:ttl("tmp:odd\\x41\n\xff"))
      assert.is_true(client:ttl("tmp:7") > 0)
    end)

    it("refuses a log that is none", function()
      local result = run { "audit", "undo", "--url", url(), "--yes", "CMakeLists.txt" }
      assert.equal(2, result.status)
      assert.matches("CMakeLists%.txt:%d+: this is no line of an undo log", result.err)
      assert.equal(2, run({ "audit", "undo", "--url", url(), "--yes", "/no/such/file" }).status)
    end)
  end)
end)
