-- SPDX-License-Identifier: MIT
-- client:list_queue: LPUSH and BRPOP on the very key, and values through a codec.

local helper = require "tests.lua.helper"
local redmoon = require "redmoon"

helper.over_each_way(describe, "a list queue", function(way)
  local client

  before_each(function()
    client = helper.fresh(way)
  end)
  after_each(function()
    client:close()
  end)

  it("gives the oldest item first, once", function()
    local queue <close> = assert(client:list_queue("q"))
    assert.equal(0, queue:length())
    assert.equal(0, select("#", select(2, queue:pop())))
    for i = 1, 3 do assert.equal(i, queue:push("item " .. i)) end
    assert.equal(3, queue:length())
    for i = 1, 3 do assert.equal("item " .. i, queue:pop()) end
    assert.is_nil(queue:pop())
    assert.equal(0, client:exists("q"))
  end)

  it("is the list of that name, whatever the prefix, and nothing more", function()
    local prefixed = helper.connect(way, { key_prefix = "p" })
    local queue = assert(prefixed:list_queue("jobs:{mail}\0\255"))
    assert.equal(1, queue:push("a\0b"))
    assert.same({ "jobs:{mail}\0\255" }, client:keys("*"))
    assert.same({ "a\0b" }, client:lrange("jobs:{mail}\0\255", 0, -1))
    assert.equal(2, client:lpush("jobs:{mail}\0\255", "theirs"))
    assert.equal("a\0b", queue:pop())
    assert.equal("theirs", queue:pop(10))
    prefixed:close()
  end)

  it("waits as long as it is told, beyond the call's timeout, and not longer", function()
    local hasty = helper.connect(way, { timeout = 0.7, read_timeout = 0.7 })
    local queue = assert(hasty:list_queue("q"))
    local before = client:time()
    local value, why = queue:pop(0.8)
    local after = client:time()
    assert.is_nil(value)
    assert.is_nil(why)
    local waited = (after[1] - before[1]) * 1000000 + after[2] - before[2]
    assert.is_true(waited >= 800000, waited)
    assert.is_nil(queue:pop(0))
    hasty:close()
  end)

  it("passes values through its codec", function()
    local queue = assert(client:list_queue("q", { codec = "json" }))
    local value = { id = math.mininteger, list = redmoon.json.array(), ratio = 2.0, none = redmoon.null }
    queue:push(value)
    assert.same(value, queue:pop())
    queue:push(redmoon.null)
    queue:push(false)
    assert.equal(redmoon.null, queue:pop())
    assert.equal(false, queue:pop())
    local message, detail = helper.assert_failure("CODEC", queue:push("secret \255"))
    assert.is_nil(message:find("secret"))
    assert.equal("not_sent", detail.outcome)
    helper.assert_failure("CODEC", queue:push(nil))
    assert.equal(0, queue:length())
    queue = assert(client:list_queue("q", { codec = { encode = string.upper, decode = string.lower } }))
    queue:push("a")
    assert.same({ "A" }, client:lrange("q", 0, -1))
    assert.equal("a", queue:pop())
  end)

  it("hands over what it cannot decode, because it is nowhere else", function()
    local queue = assert(client:list_queue("q", { codec = "json" }))
    client:lpush("q", "{secret")
    local message, detail = helper.assert_failure("CODEC", queue:pop())
    assert.is_nil(message:find("secret"))
    assert.equal("{secret", detail.payload)
    assert.equal("answered", detail.outcome)
    assert.equal(0, queue:length())
  end)

  it("stands a codec that uses the client, or closes the queue", function()
    local plain <close> = helper.connect(way, { loop = "blocking" }) -- a codec's function cannot yield
    local queue
    queue = client:list_queue("q", {
      codec = {
        encode = function(v) return assert(plain:echo(v)) end,
        decode = function(v) return assert(plain:echo(v .. "!")) end,
      },
    })
    queue:push("a")
    assert.equal("a!", queue:pop())
    queue = client:list_queue("q", {
      codec = {
        encode = function(v)
          queue:close()
          return v
        end,
        decode = function(v)
          queue:close()
          return v
        end,
      },
    })
    helper.assert_raises("closed", queue.push, queue, "a")
    queue = client:list_queue("q", { codec = { encode = tostring, decode = function(v) queue:close() return v end } })
    queue:push("a")
    assert.equal("a", queue:pop())
    helper.assert_raises("closed", queue.pop, queue)
  end)

  it("tells what is wrong", function()
    client:set("s", "no list")
    local queue = assert(client:list_queue("s"))
    helper.assert_failure("WRONGTYPE", queue:push("a"))
    helper.assert_failure("WRONGTYPE", queue:pop())
    helper.assert_failure("WRONGTYPE", queue:pop(1))
    helper.assert_failure("WRONGTYPE", queue:length())
    helper.assert_failure("CODEC", queue:push(7))
    helper.assert_raises("0 bytes", client.list_queue, client, "")
    helper.assert_raises("513 bytes", client.list_queue, client, ("x"):rep(513))
    helper.assert_raises("option 'codec'", client.list_queue, client, "q", { codec = "xml" })
    helper.assert_raises("did you mean 'codec'", client.list_queue, client, "q", { codek = "json" })
    for _, timeout in ipairs { -1, 31622401, 0 / 0, "1" } do
      helper.assert_raises("timeout", queue.pop, queue, timeout)
    end
    queue:close()
    queue:close()
    helper.assert_raises("closed", queue.push, queue, "a")
    local closed = helper.connect(way)
    closed:close()
    helper.assert_failure("CLOSED", closed:list_queue("q"))
  end)
end)
