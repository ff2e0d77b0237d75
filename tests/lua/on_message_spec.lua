-- SPDX-License-Identifier: MIT
-- subscription:on_message and the option on_message of client:subscribe: a function that the loop calls for each event.

local helper = require "tests.lua.helper"
local loops = require "tests.lua.loops"
local redmoon = require "redmoon"

for name, run in pairs(loops.each) do
  describe("a function for messages under " .. name, function()
    local client, other

    before_each(function()
      client = assert(redmoon.connect(helper.server().url, { loop = name, pool_size = 4 }))
      other = helper.client { loop = "blocking" }
    end)
    after_each(function()
      client:close()
      other:close()
    end)

    -- cqueues and luv end only when the coroutine of the function has ended, too.
    it("is called for each message in order, may wait, and is called no more after close", function()
      local seen, inside, most = {}, 0, 0
      run(function()
        local sub
        sub = assert(client:subscribe { channels = { "c" }, on_message = function(m)
          inside = inside + 1
          most = math.max(most, inside)
          assert(client:ping())
          seen[#seen + 1] = m.payload
          inside = inside - 1
          if m.payload == "100" then sub:close() end
        end })
        for i = 1, 100 do assert(client:publish("c", i)) end
        while #seen < 100 do assert(client:ping()) end
      end)
      assert.equal(100, #seen)
      for i = 1, 100 do assert.equal(tostring(i), seen[i]) end
      assert.equal(1, most)
    end)

    it("is given later, too, is told of gaps, and ends when another coroutine closes", function()
      local kinds = {}
      run(function()
        local sub = assert(client:subscribe { channels = { "c" } })
        assert.is_true(sub:on_message(function(m) kinds[#kinds + 1] = m.kind end))
        assert.has_error(function() sub:on_message(print) end, "on_message: this subscription has a function already")
        assert(client:publish("c", "x"))
        while #kinds == 0 do assert(client:ping()) end
        assert(other:call("CLIENT", "KILL", "TYPE", "pubsub"))
        while #kinds == 1 do assert(client:ping()) end
        sub:close()
      end)
      assert.same({ "message", "gap" }, kinds)
    end)

    it("that raises is told to on_error with the message, and the next ones come", function()
      local told, last = {}, nil
      run(function()
        local sub
        sub = assert(client:subscribe { channels = { "c" },
          on_message = function(m)
            if m.payload == "end" then
              last = true
              sub:close()
              return
            end
            error { what = m.payload }
          end,
          on_error = function(message, code, _, event)
            told[#told + 1] = { message.what, code, event.payload }
            if #told == 2 then error("this is said by warn") end
          end })
        for _, payload in ipairs { "a", "b", "end" } do assert(client:publish("c", payload)) end
        while not last do assert(client:ping()) end
      end)
      assert.same({ { "a", nil, "a" }, { "b", nil, "b" } }, told)
      assert.is_true(last)
    end)

    it("has its end told to on_error, but for close", function()
      local why
      run(function()
        assert(client:subscribe { channels = { "c" }, buffer = 1, overflow = "close",
          on_message = function()
            for _ = 1, 3 do assert(client:publish("c", "more")) end
          end,
          on_error = function(message, code) why = { message, code } end })
        assert(client:publish("c", "first"))
        while not why do assert(client:ping()) end
      end)
      assert.equal("TOO_LARGE", why[2])
      assert.matches("its buffer of 1 messages is full", why[1])
    end)
  end)
end

describe("a function for messages", function()
  it("is refused outside of a loop, and when it is none", function()
    local client <close> = helper.client { loop = "blocking" }
    local none = "there is no event loop to call the function from"
    helper.assert_raises("option 'on_message': " .. none, client.subscribe, client,
      { channels = { "c" }, on_message = print })
    helper.assert_raises("option 'on_message': a number is not accepted; it takes a function", client.subscribe, client,
      { channels = { "c" }, on_message = 1 })
    helper.assert_raises("option 'on_error' is for 'on_message', which is missing", client.subscribe, client,
      { channels = { "c" }, on_error = print })
    local sub <close> = assert(client:subscribe { channels = { "c" } })
    helper.assert_raises("on_message: " .. none, sub.on_message, sub, print)
    helper.assert_raises("on_message: the first argument is a string; it takes a function", sub.on_message, sub, "x")
    helper.assert_raises("on_message: the second argument is a string", sub.on_message, sub, print, "x")
  end)
end)
