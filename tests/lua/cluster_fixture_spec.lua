-- SPDX-License-Identifier: MIT
-- What the specs about clusters stand on, seen by the clients of single nodes.

local cluster = require "tests.lua.cluster"

describe("a cluster of the specs", function()
  local c, slot, from, to

  setup(function()
    c = cluster.start { node_timeout = 1 }
    slot = c:slot_of "{t}"
    from = c:primary_of(slot)
    to = from % 3 + 1
  end)
  teardown(function() c:close() end)

  -- "value", nothing, or the code of the error
  local function get(number, key)
    local value, _, code = c.nodes[number].client:get(key)
    return value or code
  end

  it("has three primaries and their replicas", function()
    for number = 1, 3 do assert.equal(3 + number, c:replica_of(number)) end
    assert.equal(1, c:primary_of(0))
    assert.equal(3, c:primary_of(16383))
    assert.equal(c.nodes[1].port, tonumber(c.url:match("^redis%+cluster://127%.0%.0%.1:(%d+),127")))
  end)

  it("moves a slot with its keys, in steps and whole", function()
    for i = 1, 25 do assert(c.nodes[from].client:set("{t}" .. i, "value")) end
    c:begin_move(slot, to)
    assert.is_true(c:move_key(slot, "{t}7"))
    assert.is_false(c:move_key(slot, "{t}7"))
    assert.equal(11, c:move_keys(slot, 11))
    assert.equal("ASK", get(from, "{t}7"))
    assert.equal("MOVED", get(to, "{t}7"))
    local held = 0
    for i = 1, 25 do held = held + (get(from, "{t}" .. i) == "value" and 1 or 0) end
    assert.equal(13, held)
    c:end_move(slot)
    assert.equal(to, c:primary_of(slot))
    for i = 1, 25 do assert.equal("value", get(to, "{t}" .. i)) end
    c:move_slot(slot, from)
    assert.equal("value", get(from, "{t}7"))
  end)

  it("fails over from a node that stands still, and from one that was killed", function()
    c:await_ok()
    c:pause(from)
    local now = c:await_failover(slot, from)
    assert.equal("value", get(now, "{t}7"))
    c:resume(from)
    c:await_ok()
    assert.equal(from, c:replica_of(now))
    c:kill(now)
    assert.equal(from, c:await_failover(slot, now))
    assert.equal("value", get(from, "{t}7"))
  end)
end)
