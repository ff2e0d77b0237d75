-- SPDX-License-Identifier: MIT
-- redmoon queue: looking into a lease queue and after its dead jobs.

local cli = require "tests.lua.cli_process"
local helper = require "tests.lua.helper"

describe("redmoon queue", function()
  local client, queue
  local url = function() return helper.server().url end

  local function tool(...) return cli.run { "queue", "mails", "--url", url(), ... } end

  -- A job that has failed for good.
  local function bury(payload, id)
    assert(queue:push(payload, { id = id, priority = 9 }))
    assert(assert(queue:pop()):nack { fatal = true, error = "no such mailbox\27[31m" })
  end

  setup(function() client = helper.client() end)
  teardown(function() client:close() end)
  before_each(function()
    assert(client:flushall())
    queue = assert(client:queue("mails", { codec = "string", retention = 60 }))
  end)

  it("counts", function()
    bury("x", "d1")
    for _ = 1, 3 do assert(queue:push("x")) end
    assert(queue:push("x", { delay = 60 }))
    local job <close> = assert(queue:pop())
    local result = tool("stats")
    assert.equal(0, result.status, result.err)
    for state, count in pairs { ready = 2, delayed = 1, leased = 1, dead = 1, done = 0 } do
      assert.matches("\n" .. state .. " +" .. count .. "\n", result.out)
    end
    assert.matches("5 pushed, 0 finished, 0 removed", result.out)
    assert.is_nil(result.out:find("paused", 1, true))
    assert(queue:pause())
    assert.matches("It is paused", tool("stats").out)
    assert.matches('"leased": 1,.*"paused": true', tool("stats", "--json").out)
    assert.truthy(job)
  end)

  it("of a name that nobody used is empty", function()
    local result = cli.run { "queue", "none", "--url", url(), "stats" }
    assert.equal(0, result.status)
    assert.matches("0 pushed", result.out)
    assert.equal(0, client:dbsize())
  end)

  it("looks under the prefix of the URL", function()
    local other <close> = assert(helper.server():connect { key_prefix = "shop" })
    assert(assert(other:queue("mails")):push("x"))
    assert.matches("\nready +0\n", tool("stats").out)
    local result = cli.run { "queue", "mails", "--url", url() .. "?key_prefix=shop", "stats" }
    assert.matches("\nready +1\n", result.out)
  end)

  it("tells of a job, but its payload only when asked", function()
    bury("s3cr3t\1", "d1")
    local result = tool("peek", "d1")
    assert.equal(0, result.status, result.err)
    assert.matches("\nstate +dead for ", result.out)
    assert.matches("\npriority +9\n", result.out)
    assert.matches("\npayload +7 bytes\n", result.out)
    assert.is_truthy(result.out:find("no such mailbox\\x1b[31m", 1, true))
    assert.is_nil(result.out:find("s3cr3t", 1, true))
    assert.matches("\npayload +s3cr3t\\x01\n", tool("peek", "d1", "--payload").out)
    local as_json = tool("peek", "d1", "--json").out
    assert.matches('"payload_bytes": 7', as_json)
    assert.is_nil(as_json:find("s3cr3t", 1, true))
    assert.matches('"payload": "s3cr3t\\u0001"', tool("peek", "d1", "--json", "--payload").out)
    local absent = tool("peek", "nobody")
    assert.equal(2, absent.status)
    assert.equal("redmoon: there is no such job\n", absent.err)
  end)

  it("lists the dead", function()
    assert.matches("^0 of 0 dead jobs\n$", tool("dead").out)
    for i = 1, 4 do bury("s3cr3t", "d" .. i) end
    local result = tool("dead", "--count", "2", "--first", "1")
    assert.equal(0, result.status, result.err)
    assert.matches("\nd2 +%d+%-%d%d%-%d%d %d%d:%d%d:%d%d UTC +1 +0 +6 bytes +no such mailbox", result.out)
    assert.matches("\nd3 ", result.out)
    assert.is_nil(result.out:find("\nd[14] "))
    assert.matches("\n2 of 4 dead jobs\n$", result.out)
    assert.is_nil(result.out:find("[\27]") or result.out:find("s3cr3t", 1, true))
    assert.matches("s3cr3t", tool("dead", "--payload").out)
    assert.matches('"jobs": %[%],\n  "total": 4', tool("dead", "--json", "--first", "10").out)
  end)

  it("redrives when it was told to", function()
    assert.matches("There are no dead jobs", tool("redrive").out)
    for i = 1, 3 do bury("x", "d" .. i) end
    local asked = tool("redrive")
    assert.equal(2, asked.status)
    assert.matches("queue 'mails': 3 dead jobs will be ready again, and run%.\n", asked.err)
    assert.equal(3, queue:stats().dead)
    assert.matches("1 job made ready", tool("redrive", "--count", "1", "--yes").out)
    assert.equal(2, queue:stats().dead)
    local typed = cli.run_in_terminal({ "queue", "mails", "--url", url(), "redrive" }, { typed = "y\n" })
    assert.equal(0, typed.status, typed.out)
    assert.equal(3, queue:stats().ready)
  end)

  it("purges a state when it was told to", function()
    assert.matches("There are no ready jobs", tool("purge", "ready").out)
    bury("x", "d1")
    assert(queue:push("x"))
    assert.equal(2, tool("purge", "dead").status)
    assert.equal(1, queue:stats().dead)
    local result = tool("purge", "dead", "--yes")
    assert.equal(0, result.status, result.err)
    assert.matches("1 dead job will be removed for good", result.err)
    assert.matches("1 job removed", result.out)
    assert.equal(0, queue:stats().dead)
    assert.equal(1, queue:stats().ready)
    assert.equal(2, tool("purge", "leased", "--yes").status)
  end)

  it("pauses and resumes when it was told to", function()
    assert.matches("It is not paused", tool("resume").out)
    local asked = tool("pause")
    assert.equal(2, asked.status)
    assert.matches("queue 'mails': no job will be handed out until it is resumed; what runs may end%.\n", asked.err)
    assert.is_false(queue:stats().paused)
    local result = tool("pause", "--yes")
    assert.equal(0, result.status, result.err)
    assert.equal("paused\n", result.out)
    assert.is_true(queue:stats().paused)
    assert.matches("It is paused already", tool("pause").out)
    assert.equal(2, tool("resume").status)
    assert.is_true(queue:stats().paused)
    local typed = cli.run_in_terminal({ "queue", "mails", "--url", url(), "resume" }, { typed = "y\n" })
    assert.equal(0, typed.status, typed.out)
    assert.matches("resumed", typed.out)
    assert.is_false(queue:stats().paused)
  end)

  it("shows groups", function()
    local limited = assert(client:queue("mails", { codec = "string", group_concurrency = 1 }))
    for i = 1, 3 do assert(queue:push("x", { id = "a" .. i, group = "tenant\27" })) end
    assert(queue:push("x", { group = "b" }))
    local job = assert(limited:pop(60))
    assert.equal("a1", job.id)
    assert.matches("\nready +3\n", tool("stats").out)
    assert.matches("\n3 of those that are ready of groups; 1 group with a turn to come", tool("stats").out)
    assert.matches('"groups": 1', tool("stats", "--json").out)
    assert.is_truthy(tool("peek", "a2").out:find("\ngroup       tenant\\x1b\n", 1, true))
  end)

  it("checks that every job is in one place", function()
    for i = 1, 3 do assert(queue:push("x", { id = "j" .. i })) end
    local result = tool("check")
    assert.equal(0, result.status, result.err)
    assert.matches("3 jobs looked at, 0 not in exactly one place", result.out)
    assert(client:zrem("redmoon:{mails}:queue.ready", "j2"))
    result = tool("check")
    assert.equal(1, result.status)
    assert.matches("violation j2: ", result.out)
  end)

  it("names what it does not know", function()
    for words, text in pairs { [{ "stat" }] = "did you mean 'stats'?", [{}] = "a command is required",
      [{ "peek" }] = "missing argument 'id'", [{ "purge", "all" }] = "'ready', 'delayed', 'dead', 'done'" } do
      local result = tool(table.unpack(words))
      assert.equal(2, result.status)
      assert.is_truthy(result.err:find(text, 1, true), result.err)
    end
    assert.equal(2, cli.run({ "queue", ("n"):rep(600), "--url", url(), "stats" }).status)
  end)
end)
