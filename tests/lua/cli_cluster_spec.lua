-- SPDX-License-Identifier: MIT
-- The command-line tool on a cluster: audit of all primaries, doctor of all nodes, top of all of them.

local cli = require "tests.lua.cli_process"
local cluster = require "tests.lua.cluster"
local redmoon = require "redmoon"

local json = redmoon.json

local KEYS <const> = 3000

describe("the command-line tool on a cluster", function()
  local c, client

  local function run(command, ...) return cli.run { command, "--url", c.url, ... } end
  local function ask(number, ...) return assert(c.nodes[number].client:call(...)) end
  local function address(number) return "127.0.0.1:" .. c.nodes[number].port end

  -- id -> list of findings
  local function examine(...)
    local result = run("doctor", "--json", ...)
    assert.equal("", result.err)
    local found = {}
    for _, finding in ipairs(assert(json.decode(result.out)).checks) do
      found[finding.id] = found[finding.id] or {}
      table.insert(found[finding.id], finding)
    end
    return found, result
  end

  local function assert_found(found, id, status, text)
    for _, finding in ipairs(found[id] or {}) do
      if finding.status == status and finding.text:find(text, 1, true) then return finding end
    end
    error(("no %s of %s with '%s' in %s"):format(status, id, text, json.encode(found[id] or {})))
  end

  setup(function()
    c = cluster.start()
    client = assert(redmoon.connect(c.url))
  end)
  teardown(function()
    client:close()
    c:close()
  end)
  before_each(function()
    assert(client:flushall())
    assert(client:pipeline(function(p)
      for i = 1, KEYS do
        local is_user = i <= 2000
        p:set(("%s:%d"):format(is_user and "user" or "session", i), "x", { ttl = not is_user and 3600 })
      end
    end))
  end)

  describe("audit", function()
    it("counts the keys of all primaries", function()
      local result = run("audit", "--require-ttl")
      assert.equal(1, result.status, result.err)
      assert.matches("3 primaries, version [%d%.]+, 3,000 keys counted", result.out)
      assert.matches("\nuser +2,000 +2,000 ", result.out)
      assert.matches("\nsession +1,000 +0 ", result.out)
      assert.matches("\n%(all%) +3,000 +2,000 ", result.out)
      assert.matches("warning +all 3 nodes: the server has no maxmemory", result.out)
      local report = json.decode(run("audit", "--json").out)
      assert.equal(KEYS, report.server.keys)
      assert.equal(0, report.moved)
      local sum = 0
      for _, node in ipairs(report.nodes) do
        assert.equal("seen", node.state)
        assert.equal(node.keys, node.keys_end)
        sum = sum + node.keys
      end
      assert.equal(3, #report.nodes)
      assert.equal(KEYS, sum)
    end)

    it("goes on where it was interrupted, in another process", function()
      local seen = 0
      local report = assert(client:audit { count = 100, on_progress = function(progress)
        assert(progress.share >= seen)
        seen = progress.share
        return seen < 0.5 -- in the second of three nodes
      end })
      assert.is_false(report.complete)
      assert.equal("seen", report.nodes[1].state)
      assert.equal("waiting", report.nodes[3].state)
      local path = cli.path "cluster_state"
      local file <close> = assert(io.open(path, "wb"))
      assert(file:write(report.state))
      file:close()
      local whole = json.decode(run("audit", "--json").out)
      local resumed = json.decode(run("audit", "--json", "--resume", path).out)
      assert.is_true(resumed.complete)
      assert.equal(0, resumed.repeats)
      assert.same(whole.prefixes[1], resumed.prefixes[1])
      assert.equal(KEYS, resumed.total.keys)
      assert.equal(2000, resumed.total.no_ttl)
    end)

    it("fixes keys of all nodes, and takes it back", function()
      local log = cli.path "cluster_undo"
      os.remove(log)
      local dry = cli.run { "audit", "fix", "--url", c.url, "--match", "user:*", "--ttl", "1d" }
      assert.matches("2,000 would get a TTL", dry.out)
      local fixed = cli.run { "audit", "fix", "--url", c.url, "--match", "user:*", "--ttl", "1d", "--apply", "--yes",
        "--undo-log", log }
      assert.equal(0, fixed.status, fixed.err)
      assert.matches("2,000 got a TTL", fixed.out)
      assert.equal(0, json.decode(run("audit", "--json").out).total.no_ttl)
      local undone = cli.run { "audit", "undo", "--url", c.url, log, "--yes" }
      assert.equal(0, undone.status, undone.err)
      assert.matches("2,000 undone, 0 left", undone.out)
      assert.equal(2000, json.decode(run("audit", "--json").out).total.no_ttl)
    end)
  end)

  describe("doctor", function()
    after_each(function()
      for _, setting in ipairs { { 2, "maxmemory-policy", "noeviction" }, { 2, "maxmemory", "0" },
        { 3, "maxclients", "10000" }, { 1, "cluster-require-full-coverage", "yes" } } do
        ask(setting[1], "CONFIG", "SET", setting[2], setting[3])
      end
    end)

    it("finds a cluster that is well usable, and says what is the same of all nodes once", function()
      local found, result = examine()
      assert.equal(0, result.status, result.out)
      assert_found(found, "nodes", "ok", "3 primaries, 3 replicas: all answer from here")
      assert_found(found, "cluster", "ok", "cluster_state ok for all 6 nodes")
      assert_found(found, "slots", "ok", "all 16,384 are served")
      assert_found(found, "failing nodes", "ok", "none")
      assert_found(found, "replication", "ok", "every primary has a replica online")
      assert_found(found, "settings", "ok", "the same on all nodes")
      assert_found(found, "coverage", "ok", "cluster-require-full-coverage yes")
      assert_found(found, "server", "ok", "all 6 nodes")
      assert_found(found, "eviction", "ok", "all 6 nodes: noeviction")
      for id, findings in pairs(found) do
        for _, finding in ipairs(findings) do assert(finding.status ~= "failure", id .. ": " .. finding.text) end
      end
      assert.equal(1, #found.memory)
      assert.equal(6, #found.memory[1].nodes)
    end)

    it("names the nodes whose settings differ", function()
      ask(2, "CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
      ask(2, "CONFIG", "SET", "maxmemory", "500mb")
      ask(3, "CONFIG", "SET", "maxclients", "500")
      ask(1, "CONFIG", "SET", "cluster-require-full-coverage", "no")
      local found, result = examine("--uses", "lock", "--processes", "40")
      assert.equal(1, result.status)
      assert_found(found, "eviction", "failure", address(2) .. ": allkeys-lru")
      assert_found(found, "eviction", "ok", "noeviction")
      assert_found(found, "pools", "failure", address(3) .. ": pool_size 20 x 40")
      assert_found(found, "settings", "warning", "allkeys-lru on " .. address(2))
      assert_found(found, "settings", "warning", "maxclients differs")
      assert_found(found, "settings", "warning", "cluster-require-full-coverage differs")
    end)

    it("says that slots are being moved", function()
      local slot = c:slot_of "user:7"
      local to = c:primary_of(slot) % 3 + 1
      c:begin_move(slot, to)
      assert_found(examine(), "moving slots", "warning", "1 slot being moved")
      c:end_move(slot)
    end)
  end)

  it("shows its nodes in top", function()
    local queue = client:queue "mails"
    assert(queue:push "x")
    for i = 1, 12 do assert(client:set(("redmoon:{%d}:lock"):format(i), "x")) end -- on all of them
    local result = run("top", "--interval", "0.05")
    assert.equal(0, result.status, result.err)
    assert.matches("3 primaries", result.out)
    for number = 1, 6 do
      local role = number <= 3 and "primary" or "replica"
      assert.matches("\n" .. address(number):gsub("%.", "%%.") .. " +" .. role .. " +", result.out)
    end
    assert.matches("\nmails +1 +0 +0 +0", result.out)
    assert.matches("\nlock +12\n", result.out)
    assert.matches("\nredmoon%-top +127%.0%.0%.1 +[78] ", result.out)
    local nodes = json.decode(run("top", "--interval", "0.05", "--json").out).nodes
    assert.equal(6, #nodes)
    assert.is_true(nodes[1].used_memory > 0 and nodes[1].round_trip > 0)
    queue:close()
  end)

  -- The last ones: the nodes that are killed stay so.
  it("tells in doctor who cannot be reached and who has no replica, and in top who gives no answer", function()
    local replica = c:replica_of(1)
    c:kill(replica)
    local found, result = examine()
    assert.equal(1, result.status)
    assert_found(found, "nodes", "failure", address(replica) .. " (replica) cannot be reached from here")
    assert_found(found, "replication", "warning", "no replica of " .. address(1))
    local place = address(replica):gsub("%.", "%%.")
    assert.matches("\n" .. place .. " +replica +no answer", run("top", "--interval", "0.05").out)
  end)

  it("tells in doctor that slots are not served", function()
    ask(1, "CLUSTER", "DELSLOTS", "100")
    c:await("the node is down", function() return ask(1, "CLUSTER", "INFO"):find("cluster_state:fail", 1, true) end)
    local found, result = examine()
    assert.equal(1, result.status)
    assert_found(found, "cluster", "failure", "cluster_state is not ok")
    assert_found(found, "slots", "failure", "16,383 of 16,384 assigned")
  end)
end)
