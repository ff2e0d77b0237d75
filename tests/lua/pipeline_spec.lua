-- SPDX-License-Identifier: MIT
-- client:pipeline: one round trip, one outcome for each command.

local redmoon = require "redmoon"
local helper = require "tests.lua.helper"
local on_one_server = helper.on_one_server(it)

helper.over_each_way(describe, "a pipeline", function(way)
  local client

  before_each(function()
    client = helper.fresh(way)
  end)
  after_each(function()
    client:close()
  end)

  it("gives each command its index and its reply", function()
    local first, second, third
    local replies = assert(client:pipeline(function(p)
      first = p:incr("a")
      second = p:call("INCRBY", "a", 4)
      third = p:get("none")
    end))
    assert.same({ 1, 2, 3 }, { first, second, third })
    assert.same({ 1, 5, redmoon.null, n = 3 }, replies)
  end)

  it("keeps the error of one command to itself", function()
    client:set("t", "text")
    local replies = assert(client:pipeline(function(p)
      p:incr("t")
      p:incr("n")
    end))
    assert.is_true(redmoon.is_error(replies[1]))
    assert.equal("ERR", replies[1].code)
    assert.equal("answered", replies[1].outcome)
    assert.equal(1, replies[2])
    assert.is_false(redmoon.is_error(replies[2]))
    assert.is_false(redmoon.is_error(replies))
  end)

  it("sends nothing when its function raises, and lets the error through", function()
    local mark = {}
    local ok, raised = pcall(client.pipeline, client, function(p)
      p:set("k", "v")
      error(mark)
    end)
    assert.is_false(ok)
    assert.equal(mark, raised)
    assert.is_nil((client:get("k")))
    assert.same({ "PONG", n = 1 }, client:pipeline(function(p) p:ping() end))
  end)

  it("is empty without a round trip", function()
    local function processed() return helper.info(client, "stats", "total_commands_processed") end
    local before = processed()
    local asking = processed() - before
    assert.same({ n = 0 }, client:pipeline(function() end))
    assert.equal(before + 2 * asking, processed())
  end)

  it("is dead after its end", function()
    local kept
    assert(client:pipeline(function(p)
      kept = p
      p:ping()
    end))
    helper.assert_raises("the pipeline has ended", function()
      kept:get("k")
    end)
    helper.assert_raises("the pipeline has ended", function()
      kept:call("GET", "k")
    end)
    assert.equal("redmoon.pipeline (ended)", tostring(kept))
    pcall(client.pipeline, client, function(p)
      kept = p
      error("no")
    end)
    helper.assert_raises("the pipeline has ended", function()
      kept:get("k")
    end)
  end)

  it("raises for bad arguments and for commands that may not go through a pool", function()
    helper.assert_raises("bad argument #1 to 'get' %(string or number expected, got nil%)", function()
      client:pipeline(function(p)
        p:get(nil)
      end)
    end)
    helper.assert_raises("MULTI changes the state", function()
      client:pipeline(function(p)
        p:set("k", 1)
        p:multi()
      end)
    end)
    helper.assert_raises("bad argument #1 to 'pipeline' %(function expected", function()
      client:pipeline("x")
    end)
    assert.is_nil((client:get("k")))
  end)

  it("lets other calls be made inside its function", function()
    client:set("k", "seen")
    local replies = assert(client:pipeline(function(p)
      p:echo(client:get("k"))
      local inner = assert(client:pipeline(function(q) q:echo("inner") end))
      p:echo(inner[1])
    end))
    assert.same({ "seen", "inner", n = 2 }, replies)
  end)

  it("lets its function yield", function()
    local client <close> = helper.connect(way, { loop = "blocking" }) -- luacheck: ignore
    local thread = coroutine.wrap(function()
      return client:pipeline(function(p)
        p:echo("one")
        coroutine.yield("paused")
        p:echo("two")
      end)
    end)
    assert.equal("paused", thread())
    assert.equal("PONG", client:ping())
    assert.same({ "one", "two", n = 2 }, thread())
  end)

  it("carries thousands of commands of all sizes", function()
    local count = 20000
    local patient = client:with { timeout = 120, read_timeout = 60, write_timeout = 60 } -- machines can be busy
    local replies = assert(patient:pipeline(function(p)
      for i = 1, count do p:set("k" .. i % 100, ("x"):rep(i % 97)) end
      for i = 1, count do p:echo(i) end
    end))
    assert.equal(2 * count, replies.n)
    for i = 1, count do
      assert(replies[i] == true and replies[count + i] == tostring(i))
    end
  end)

  on_one_server("tells each command's outcome when the connection fails in the middle", function()
    local value, message, code, detail = client:pipeline(function(p)
      p:incr("a")
      p:call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "no")
      p:incr("b")
    end)
    assert.is_nil(value)
    assert.is_string(message)
    assert.equal("IO", code)
    local replies = detail.replies
    assert.equal(3, replies.n)
    assert.equal(1, replies[1])
    assert.is_false(redmoon.is_error(replies[2]))
    assert.is_true(redmoon.is_error(replies[3]))
    assert.equal("IO", replies[3].code)
    assert.equal("unknown", replies[3].outcome)
    assert.equal("1", client:get("a"))
    assert.is_nil((client:get("b")))
  end)

  on_one_server("tells what was not sent from what may have been executed", function()
    local chunk, count = ("x"):rep(1 << 20), 100
    local _, _, _, detail = client:pipeline(function(p)
      p:call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "no")
      p:incr("b")
      for _ = 1, count do p:echo(chunk) end
    end)
    local replies = detail.replies
    assert.equal(count + 2, replies.n)
    assert.equal("unknown", replies[2].outcome)
    assert.equal("not_sent", replies[count + 2].outcome)
    assert.is_nil((client:get("b")))
  end)

  it("says not_sent for all when no connection could be had", function()
    local nowhere <close> = assert(redmoon.connect("unix:///tmp/redmoon-no-such-socket", { max_retries = 0 }))
    local _, detail = helper.assert_failure("CONNECT", nowhere:pipeline(function(p)
      p:incr("a")
      p:incr("b")
    end))
    assert.equal("not_sent", detail.outcome)
    assert.equal("not_sent", detail.replies[1].outcome)
    assert.equal("not_sent", detail.replies[2].outcome)
    assert.equal(2, detail.replies.n)
  end)

  it("fails with CLOSED on a closed client", function()
    client:close()
    helper.assert_failure("CLOSED", client:pipeline(function() end))
  end)
end)
