-- SPDX-License-Identifier: MIT
-- Topics on a real server, beside a model of the numbers; what readers make of it is in tests/server.
local here = debug.getinfo(1, "S").source:match("^@(.*/)") or "./"
package.path = here .. "support/?.lua;" .. package.path
local scripts = require "scripts"
local server = require "server"
local steps_of = require "steps"

local TOPIC = "redmoon:{t}:topic"
local MAX = 9007199254740991
local MONTH = 30 * 24 * 3600 * 1000

describe("topic_publish and topic_mark", function()
  local redis, stop, publish_sha, mark_sha
  setup(function()
    redis, stop = server.start()
    publish_sha = redis:call("SCRIPT", "LOAD", scripts.expand("topic_publish"))
    mark_sha = redis:call("SCRIPT", "LOAD", scripts.expand("topic_mark"))
  end)
  teardown(function() stop() end)
  before_each(function() redis:call("FLUSHALL") end)

  local function epoch_of(i) return ("%016x"):format(i) end
  local function publish(payload, epoch, id)
    if id then return redis:call("EVALSHA", publish_sha, 2, TOPIC, TOPIC .. "+req." .. id, payload, epoch) end
    return redis:call("EVALSHA", publish_sha, 1, TOPIC, payload, epoch)
  end
  local function mark(token) return redis:call("EVALSHA", mark_sha, 1, TOPIC, token) end

  local seed = math.tointeger(os.getenv("SEED") or 20261125)
  local steps = steps_of(20000)
  print("SEED=" .. seed .. " STEPS=" .. steps)

  it("number without a hole or a repetition over random steps", function()
    math.randomseed(seed)
    local epoch, seq, requests = "", 0, {}
    for step = 1, steps do
      local what = math.random(100)
      if what <= 70 then
        local id = math.random(4) == 1 and "r" .. math.random(30) or nil
        local fresh = epoch_of(step)
        local known = id and requests[id]
        local answer = publish(("p"):rep(math.random(0, 20)), fresh, id)
        if known then
          assert.are.same(known, answer)
        else
          if epoch == "" then epoch = fresh end
          seq = seq + 1
          assert.are.same({1, seq, 0, epoch}, answer)
          if id then requests[id] = answer end
        end
        assert.is_true(redis:call("PTTL", TOPIC) > MONTH - 60000)
      elseif what <= 97 then
        local before = redis:call("DUMP", TOPIC)
        assert.are.same({1, seq, 0, epoch}, mark(epoch_of(7)))
        assert.are.equal(before, redis:call("DUMP", TOPIC))
      elseif what == 98 then
        redis:call("FLUSHALL")
        epoch, seq, requests = "", 0, {}
      elseif what == 99 and epoch ~= "" then -- another server's past
        seq = math.random(1, MAX - steps)
        redis:call("HSET", TOPIC, "seq", ("%.0f"):format(seq))
      end
    end
  end)

  it("send what readers take apart: epoch, number and payload", function()
    publish("a", epoch_of(1))
    assert.are.same({epoch_of(1), "1"}, redis:call("HMGET", TOPIC, "epoch", "seq"))
    local include = scripts.read("scripts/include/topic.lua"):match("(local function topic_message.-\nend)\n")
    local message = load(include .. " return topic_message")()
    assert.are.equal("0123456789abcdef:7:a:b", message("0123456789abcdef", 7, "a:b"))
    assert.are.equal(":0:", message("", 0, ""))
    assert.are.equal("e:" .. MAX .. ":", message("e", MAX + 0.0, ""))
  end)

  it("stop at the last number", function()
    publish("a", epoch_of(1))
    redis:call("HSET", TOPIC, "seq", ("%.0f"):format(MAX - 1))
    assert.are.same({1, MAX, 0, epoch_of(1)}, publish("b", epoch_of(2)))
    local dump = redis:call("DUMP", TOPIC)
    assert.is_truthy(publish("c", epoch_of(3)).err:find("could be numbered on", 1, true))
    assert.are.equal(dump, redis:call("DUMP", TOPIC))
    assert.are.same({1, MAX, 0, epoch_of(1)}, mark(epoch_of(1)))
  end)

  it("refuse bad input, and what is no topic, before anything is written", function()
    for _, bad in ipairs {"", "0123456789abcde", "0123456789abcdef0", "0123456789ABCDEF", "0123456789abcdeg"} do
      assert.is_truthy(publish("p", bad).err:find("16 lower%-case hex digits"), bad)
      assert.is_truthy(mark(bad).err:find("16 lower%-case hex digits"), bad)
    end
    assert.is_truthy(redis:call("EVALSHA", publish_sha, 1, TOPIC).err:find("ARGV is", 1, true))
    assert.is_truthy(redis:call("EVALSHA", mark_sha, 1, TOPIC).err:find("ARGV is", 1, true))
    assert.are.equal(0, redis:call("DBSIZE"))
    for _, foreign in ipairs {{"x", "y"}, {"epoch", epoch_of(1)}, {"seq", "1"}, {"epoch", "short", "seq", "1"},
      {"epoch", epoch_of(1), "seq", "0"}, {"epoch", epoch_of(1), "seq", "1.5"}, {"epoch", epoch_of(1), "seq", "x"},
      {"epoch", epoch_of(1), "seq", "9007199254740992"}, {"epoch", epoch_of(1), "seq", "-1"}} do
      redis:call("DEL", TOPIC)
      redis:call("HSET", TOPIC, table.unpack(foreign))
      local dump = redis:call("DUMP", TOPIC)
      assert.is_truthy(publish("p", epoch_of(2)).err:find("holds no topic", 1, true), table.concat(foreign, " "))
      assert.is_truthy(mark(epoch_of(2)).err:find("holds no topic", 1, true))
      assert.are.equal(dump, redis:call("DUMP", TOPIC))
    end
    redis:call("SET", TOPIC, "x")
    assert.is_truthy(publish("p", epoch_of(1)).err:find("WRONGTYPE", 1, true))
    assert.are.equal("x", redis:call("GET", TOPIC))
  end)
end)
