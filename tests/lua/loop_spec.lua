-- SPDX-License-Identifier: MIT
-- Event loops: calls yield, many coroutines share one client, and one that is closed in mid-call costs a connection only.

local helper = require "tests.lua.helper"
local loops = require "tests.lua.loops"
local redmoon = require "redmoon"

for name, run in pairs(loops.each) do
  describe("under " .. name, function()
    local client

    local function connect(options)
      options.loop = name
      return assert(redmoon.connect(helper.server().url, options))
    end

    before_each(function()
      client = connect { pool_size = 4 }
      assert(client:flushall())
    end)
    after_each(function() client:close() end)

    it("an audit and its fix let others go on, and on_progress may not wait", function()
      for i = 1, 300 do assert(client:set("a:" .. i, "v")) end
      local over, others, pages = false, 0, 0
      run(function()
        local report = assert(client:audit { count = 10, on_progress = function() pages = pages + 1 end })
        assert.equal(300, report.total.keys)
        local fixed = assert(client:audit_fix { match = "a:*", ttl = 60, dry_run = false, count = 10 })
        assert.equal(300, fixed.fixed)
        assert.is_true(client:audit_undo(fixed.keys[1].key, fixed.keys[1].expires))
        local ok, why = pcall(client.audit, client, { on_progress = function() client:ping() end })
        assert.is_false(ok)
        assert.matches("cannot yield here", why)
        over = true
      end, function()
        while not over do
          assert(client:ping())
          others = others + 1
        end
      end)
      assert.is_true(pages > 10 and others > 10)
      assert.equal(0, client:stats().in_use)
    end)

    it("many coroutines share a client and a small pool, and each gets its own replies", function()
      local wrong, functions = 0, {}
      for i = 1, 64 do
        functions[i] = function()
          for j = 1, 20 do
            local tag = i .. ":" .. j
            if assert(client:echo(tag)) ~= tag then wrong = wrong + 1 end
            local replies = assert(client:pipeline(function(p)
              p:echo(tag)
              p:incr("n")
            end))
            if replies[1] ~= tag then wrong = wrong + 1 end
          end
        end
      end
      run(table.unpack(functions))
      assert.equal(0, wrong)
      assert.equal(64 * 20, tonumber(client:get("n")))
      assert.equal(4, client:stats().total)
      assert.equal(0, client:stats().in_use)
    end)

    -- Another coroutine goes on while one waits: it lets the wait end itself.
    local function goes_on_while(wait, finish)
      local order = {}
      run(function()
        wait()
        order[#order + 1] = "waited"
      end, function()
        for _ = 1, 5 do assert(client:ping()) end
        order[#order + 1] = "went on"
        finish()
      end)
      assert.same({ "went on", "waited" }, order)
    end

    it("a command that blocks on the server", function()
      goes_on_while(function()
        assert.same({ "list", "x" }, client:blpop("list", 30))
      end, function()
        assert(client:rpush("list", "x"))
      end)
    end)

    it("a full pool", function()
      local small <close> = connect { pool_size = 1, pool_timeout = 30 }
      local holds = false
      goes_on_while(function()
        assert.equal("PONG", small:ping())
        holds = true
        assert.same({ "list", "x" }, small:blpop("list", 30))
      end, function()
        assert.is_true(holds)
        assert(client:rpush("list", "x"))
      end)
      local order = {}
      run(function()
        small:blpop("list", 30)
        order[#order + 1] = "first"
      end, function()
        while small:stats().in_use == 0 do assert(client:ping()) end
        assert.equal("PONG", small:ping()) -- waits for the only connection
        order[#order + 1] = "second"
      end, function()
        while small:stats().waiting == 0 do assert(client:ping()) end
        order[#order + 1] = "third"
        assert(client:rpush("list", "y"))
      end)
      assert.equal("third", order[1])
      assert.equal(3, #order)
    end)

    -- A call fails where it waits, which tells where that was; others go on meanwhile.
    local function goes_on_until_it_fails(url, options, code, phase, finish, ...)
      options.loop, options.max_retries = name, 0
      local far <close> = assert(redmoon.connect(url, options))
      local began, ended, turns = false, false, 0
      local function tick()
        if began and not ended then turns = turns + 1 end
      end
      run(function()
        for _ = 1, 5 do assert(client:ping()) end -- the others have begun
        began = true
        local _, detail = helper.assert_failure(code, far:ping())
        ended = true
        if finish then finish() end
        assert.equal(phase, detail.phase)
      end, function()
        while not ended do
          tick()
          assert(client:ping())
        end
      end, ...)
      assert(turns > 0, "nobody else had a turn")
    end

    local function signal(server, what) assert(os.execute(("kill -%s %d"):format(what, server.pid))) end

    it("a dial to a server whose backlog is full", function()
      local server <close>, url = helper.tcp_server("--tcp-backlog", "1")
      signal(server, "STOP")
      local fillers = {}
      for i = 1, 2 do
        local filler = assert(redmoon.connect(url,
          { loop = name, connect_timeout = 30, read_timeout = 30, timeout = 60 }))
        fillers[i] = function()
          assert.equal("PONG", filler:ping())
          filler:close()
        end
      end
      goes_on_until_it_fails(url, { connect_timeout = 0.2 }, "TIMEOUT", "dial", function() signal(server, "CONT") end,
        table.unpack(fillers))
    end)

    it("a TLS handshake", function()
      local server <close>, url = helper.tls_server(helper.certs().good)
      signal(server, "STOP")
      goes_on_until_it_fails(url, { connect_timeout = 0.2, tls = { ca_file = helper.certs().ca_file } }, "TIMEOUT", "tls",
        function() signal(server, "CONT") end)
    end)

    it("a lock that another holds", function()
      local held = assert(client:lock("l", { ttl = 30 }))
      goes_on_while(function()
        local lock <close> = assert(client:lock("l", { wait = 30 }))
        assert.is_true(lock:held())
      end, function()
        assert(held:release())
      end)
    end)

    it("a redlock that another holds", function()
      local second = assert(helper.embedded())
      local beside = assert(redmoon.connect(second.url, { loop = name }))
      local redlock <close> = redmoon.redlock { client, beside, quarantine = false }
      local lock
      run(function() lock = assert(redlock:lock("l")) end)
      goes_on_while(function()
        local waited <close> = assert(redlock:lock("l", { wait = 30 }))
        assert.is_true(waited:held())
      end, function() assert.is_true(lock:release()) end)
      beside:close()
      second:close()
    end)

    it("a value that another coroutine loads, by a loader that waits itself", function()
      local cache <close> = assert(client:cache { name = "c", ttl = 60 })
      local loads, values, functions = 0, {}, {}
      local function load(key)
        loads = loads + 1
        assert.same({ "list", key }, client:blpop("list", 30)) -- until one of the others has asked, and goes on
        return key .. "!"
      end
      for i = 1, 10 do
        functions[i] = function() values[i] = assert(cache:get("x", load)) end
      end
      functions[11] = function()
        while cache:stats().waits < 9 or loads == 0 do assert(client:ping()) end
        assert.equal(1, loads)
        assert(client:rpush("list", "x"))
      end
      run(table.unpack(functions))
      assert.equal(1, loads)
      for i = 1, 10 do assert.equal("x!", values[i]) end
      local seen
      run(function()
        seen = assert(cache:get_many({ "x", "y" }, function(keys)
          assert(client:ping())
          return { [keys[1]] = "Y" }
        end))
      end)
      assert.same({ "x!", "Y" }, seen)
      assert.is_true(cache:set("x", 1) and cache:delete("x"))
    end)

    for _, kind in ipairs { "list_queue", "stream_queue", "queue" } do
      it("a job of an empty " .. kind, function()
        local queue <close> = assert(client[kind](client, "q"))
        goes_on_while(function()
          local job = assert(queue:pop(30))
          assert.equal("x", kind == "list_queue" and job or job.payload)
          if kind ~= "list_queue" then assert(job:ack()) end
        end, function()
          assert(queue:push("x"))
        end)
      end)
    end

    it("a queue that is closed meanwhile: who waits gets the job all the same", function()
      for _, kind in ipairs { "stream_queue", "queue" } do
        local queue <close> = assert(client[kind](client, "q"))
        local other <close> = assert(client[kind](client, "q"))
        local jobs = {}
        run(function() jobs[1] = assert(queue:pop(30)) end, function()
          table.move(assert(queue:pop_many(1, 30)), 1, 1, 2, jobs)
        end, function()
          for _ = 1, 5 do assert(client:ping()) end
          queue:close()
          assert(other:push("x") and other:push("y"))
        end)
        local payloads = { jobs[1].payload, jobs[2].payload }
        table.sort(payloads)
        assert.same({ "x", "y" }, payloads)
        run(function()
          for _, job in ipairs(jobs) do assert(job:ack()) end
        end)
      end
    end)

    it("a rate limit that is used up", function()
      local limiter = assert(client:rate_limiter { algorithm = "gcra", limit = 1, window = 0.3, name = "w" })
      assert.is_true(limiter:allow("k").allowed)
      goes_on_while(function()
        assert.is_true(limiter:wait("k", 1, 30).allowed)
      end, function() end)
    end)

    it("a subscription, which is added to and closed while a coroutine waits at it", function()
      local sub <close> = assert(client:subscribe { channels = { "c" } })
      goes_on_while(function()
        assert.equal("x", sub:receive(30).payload)
      end, function()
        assert(client:publish("c", "x"))
      end)
      goes_on_while(function()
        local next_message = sub:messages()
        assert.equal("d", next_message(sub).channel)
      end, function()
        assert.is_true(sub:add { channels = { "d" } })
        assert(client:publish("d", "x"))
      end)
      local seen, order = {}, {}
      run(function()
        for m in sub:messages() do seen[#seen + 1] = m.payload end
        order[#order + 1] = "first"
      end, function()
        helper.assert_failure("CLOSED", sub:receive(30))
        order[#order + 1] = "second"
      end, function()
        for _ = 1, 5 do assert(client:ping()) end
        order[#order + 1] = "closes"
        sub:close()
      end)
      assert.equal("closes", order[1])
      assert.equal(3, #order)
      assert.same({}, seen)
      assert.equal(0, client:stats().subscriptions)
    end)

    it("a topic, whose reader is closed while a coroutine waits at it", function()
      local topic <close> = assert(client:topic("t"))
      local reader <close> = assert(topic:subscribe())
      goes_on_while(function()
        assert.equal("x", reader:receive(30).payload)
      end, function()
        assert.equal(1, topic:publish("x").seq)
      end)
      goes_on_while(function()
        helper.assert_failure("CLOSED", reader:receive(30))
      end, function() reader:close() end)
    end)

    it("a durable topic, and a reader with a name", function()
      local topic <close> = assert(client:topic("d", { durable = true }))
      local reader <close> = assert(topic:reader("r"))
      goes_on_while(function()
        assert.equal("x", reader:receive(30).payload)
        assert(reader:ack())
      end, function()
        assert.equal(1, topic:publish("x").seq)
      end)
      goes_on_while(function()
        helper.assert_failure("CLOSED", reader:receive(30))
      end, function()
        reader:close()
        assert(topic:publish("x"))
      end)
      local small <close> = assert(topic:subscribe { buffer = 1 })
      goes_on_while(function()
        for i = 3, 200 do assert.equal(i, small:receive(30).seq) end
      end, function()
        for _ = 3, 200 do assert(topic:publish("y")) end
      end)
    end)

    it("a transaction and a scan", function()
      for i = 1, 500 do assert(client:set("key:" .. i, i)) end
      local seen, done = 0, nil
      run(function()
        for _ in client:scan { match = "key:*", count = 10 } do seen = seen + 1 end
      end, function()
        done = assert(client:transaction("key:1", function(tx)
          local value = tonumber(tx:get("key:1"))
          tx:multi()
          tx:set("key:1", value + 1)
        end))
      end)
      assert.is_true(seen >= 500)
      assert.same({ true, n = 1 }, done)
      assert.equal("2", client:get("key:1"))
    end)

    -- Each of `count` coroutines keeps a connection, and asks for one more when all do.
    local function keep_and_ask(small, count)
      local keeping, ended = 0, {}
      local function one(number)
        return function()
          local _, message = small:transaction("kept:" .. number, function(tx)
            keeping = keeping + 1
            repeat assert(tx:get("kept:" .. number) == nil) until keeping == count
            ended[number] = table.pack(small:ping())
            return false
          end)
          assert(message == nil, message)
        end
      end
      local fns = {}
      for i = 1, count do fns[i] = one(i) end
      run(table.unpack(fns))
      return ended
    end

    it("coroutines that keep all connections and wait for one more: the last is refused, the others go on", function()
      local small <close> = connect { pool_size = 3, pool_timeout = 60, timeout = 60 }
      local served, refused = 0, 0
      for _, result in ipairs(keep_and_ask(small, 3)) do
        if result[1] then served = served + 1 else
          refused = refused + 1
          helper.assert_failure("POOL_DEADLOCK", table.unpack(result, 1, result.n))
          assert.matches("kept by transactions whose callers wait for one more", result[2])
        end
      end
      assert.same({ 2, 1 }, { served, refused })
      assert.equal(0, small:stats().in_use)
    end)

    it("the same where calls share connections: none is left for that, and the error says who has them", function()
      local small <close> = connect { pool_size = 3, pool_timeout = 0.05, timeout = 60, multiplex = true }
      local served, refused = 0, 0
      for _, result in ipairs(keep_and_ask(small, 3)) do
        if result[1] then served = served + 1 else
          refused = refused + 1
          assert.truthy(result[3] == "POOL_TIMEOUT" or result[3] == "POOL_DEADLOCK", result[2])
          assert.matches("kept by transactions", result[2])
        end
      end
      assert.equal(3, served + refused)
      assert.truthy(refused >= 1)
    end)

    it("a deadline ends a wait, and the connection is not used again", function()
      local hasty <close> = client:with { timeout = 0.05, max_retries = 0 }
      run(function()
        helper.assert_failure("TIMEOUT", hasty:call("DEBUG", "SLEEP", "0.3"))
        assert.equal("mine", client:echo("mine"))
      end)
      assert.equal(1, client:stats().closed.error)
    end)

    it("a coroutine that cannot yield is told so, and nothing is sent", function()
      local before = helper.info(client, "stats", "total_commands_processed")
      local failures = {}
      run(function()
        failures[1] = select(2, pcall(table.sort, { 2, 1 }, function() return client:incr("n") end))
        failures[2] = select(2, pcall(string.gsub, "a", "a", function() return client:incr("n") end))
      end)
      for i = 1, 2 do assert.matches("would have to wait, but its coroutine cannot yield here", failures[i]) end
      assert.equal(before + 1, helper.info(client, "stats", "total_commands_processed"))
      assert.equal("PONG", client:ping())
    end)

    it("outside of the loop a call blocks", function()
      assert.equal("PONG", client:ping())
      assert.equal("x", client:echo("x"))
    end)

    it("a call under way ends as it would though its client is closed", function()
      local other <close> = connect {}
      local answer
      run(function() answer = client:blpop("list", 30) end, function()
        for _ = 1, 5 do assert(other:ping()) end
        client:close()
        assert(other:rpush("list", "x"))
      end)
      assert.same({ "list", "x" }, answer)
      client = connect {}
    end)
  end)
end

describe("luv, where coroutines that are parked have one timer together,", function()
  local uv, luv = require "luv", require "redmoon.loops.luv"

  local function begin(fn)
    local co = coroutine.create(fn)
    assert(coroutine.resume(co))
    return co
  end

  it("lets each go on once, when it is woken or its time has come, and ends with the last of them", function()
    local gone = {}
    for key, seconds in pairs { a = 0.002, b = 0.004, c = 0.001, d = 600, e = 600 } do
      begin(function()
        luv.park(key, seconds)
        gone[key] = (gone[key] or 0) + 1
      end)
    end
    while not (gone.a and gone.b and gone.c) do uv.run("nowait") end
    assert.same({ a = 1, b = 1, c = 1 }, gone)
    luv.wake("d")
    luv.wake("d")
    assert.is_nil(gone.d) -- not at once
    uv.run("nowait")
    assert.equal(1, gone.d)
    assert.is_true(uv.loop_alive())
    luv.wake("e")
    uv.run("nowait")
    assert.equal(1, gone.e)
    assert.is_false(uv.loop_alive())
  end)

  it("keeps to the time of who comes later, or parks again, and has less of it", function()
    local turns = 0
    begin(function() luv.park("long", 600) end)
    begin(function()
      for _ = 1, 3 do
        luv.park("short", 0.001)
        turns = turns + 1
      end
      luv.wake("long")
    end)
    uv.run()
    assert.equal(3, turns)
  end)

  it("does without those that were closed", function()
    local gone = {}
    local function park(key, seconds)
      return begin(function()
        luv.park(key, seconds)
        gone[#gone + 1] = key
      end)
    end
    coroutine.close(park("a", 0.001))
    local woken = park("b", 600)
    luv.wake("b")
    coroutine.close(woken)
    coroutine.close(park("c", 600))
    park("c", 600) -- the same key, another coroutine
    luv.wake("c")
    uv.run()
    assert.same({ "c" }, gone)
    park("d", 600)
    luv.wake("d")
    uv.run("nowait")
    assert.is_false(uv.loop_alive())
  end)
end)

describe("a loop of one's own", function()
  local function connect(loop, options)
    options = options or {}
    options.loop = loop
    return assert(redmoon.connect(helper.server().url, options))
  end

  it("is asked to wait", function()
    local loop, answer = loops.new(), nil
    local client <close> = connect(loop)
    loop.run(function() answer = client:echo("x") end)
    assert.equal("x", answer)
  end)

  it("is asked to wait while a name is resolved", function()
    local loop, turns, detail = loops.new(), 0, nil
    local client <close> = assert(redmoon.connect("redis://no-such-host.invalid:6379", { loop = loop, max_retries = 0 }))
    assert(coroutine.resume(coroutine.create(function()
      detail = select(2, helper.assert_failure("CONNECT", client:ping()))
    end)))
    while loop.turn() do turns = turns + 1 end
    assert.equal("resolve", detail.phase) -- it came no further, so all waits were for that
    assert(turns > 0)
  end)

  it("may raise: the call ends, and the client goes on", function()
    local loop = loops.new()
    local client <close> = connect(loop, { pool_size = 1 })
    local wait, message = loop.wait, nil
    assert.equal("PONG", client:ping())
    local failing <close> = connect({ wait = function() error("no more") end }, { pool_size = 1 })
    assert.equal("PONG", failing:ping())
    coroutine.wrap(function() message = select(2, pcall(failing.blpop, failing, "list", 5)) end)()
    assert.matches("no more", message)
    assert.equal(0, failing:stats().in_use)
    assert.equal("PONG", failing:ping())
    assert.equal(wait, loop.wait)
  end)

  it("that forgets a coroutine inside of a call gets the connection back when that is collected", function()
    local loop = loops.new()
    local client <close> = connect(loop, { pool_size = 1 })
    for _, call in ipairs { loops.calls.command, loops.calls.pipeline, loops.calls.counter } do
      local co = coroutine.create(call)
      assert(coroutine.resume(co, client, "x"))
      while client:stats().in_use == 0 do loop.turn() end
      loop.drop(co)
      co = nil -- luacheck: ignore
      for _ = 1, 2 do collectgarbage() end
      assert.equal(0, client:stats().in_use)
    end
  end)

  -- Each call, stopped all along its way by closing its coroutine.  What is asked again and again has many waits: a first
  -- run tells how many, and the others end after every so many of them.
  local STOPS = 40
  local function it_may_be_closed(name, call, multiplex)
    local how = multiplex and "multiplexed " or ""
    it(("that closes a coroutine inside of a call costs a connection, never a reply: %s%s"):format(how, name), function()
      local loop = loops.new()
      local client <close> = connect(loop, { pool_size = 2, multiplex = multiplex })
      local waits = 0
      assert(coroutine.resume(coroutine.create(call), client, "first"))
      while loop.turn() do waits = waits + 1 end
      local closed = 0
      for stop = 0, STOPS - 1 do
        local co = coroutine.create(call)
        assert(coroutine.resume(co, client, "call" .. stop))
        for _ = 1, waits * stop // STOPS do loop.turn() end
        if coroutine.status(co) == "suspended" then closed = closed + 1 end
        assert(coroutine.close(co))
        assert.equal(0, client:stats().in_use)
        local tag = "tag" .. stop
        loop.run(function() assert.equal(tag, client:echo(tag)) end)
      end
      assert(closed > 0, "no call was closed on its way")
    end)
  end
  for name, call in pairs(loops.calls) do
    it_may_be_closed(name, call, false)
    it_may_be_closed(name, call, true)
  end

  it("that closes a worker lets the jobs that run end by themselves, and nothing more is begun", function()
    local loop = loops.new()
    function loop.spawn(fn, ...) assert(coroutine.resume(coroutine.create(fn), ...)) end
    local client <close> = connect(loop)
    assert(client:flushall())
    local queue, begun, ended = assert(client:queue("w")), 0, 0
    for i = 1, 10 do assert(queue:push(i)) end
    local worker = coroutine.create(function()
      queue:work(function()
        begun = begun + 1
        for _ = 1, 5 do assert(client:ping()) end
        ended = ended + 1
      end, { concurrency = 3 })
    end)
    assert(coroutine.resume(worker))
    while begun < 3 do loop.turn() end
    assert(coroutine.close(worker))
    while loop.turn() do end
    assert.same({ 3, 3 }, { begun, ended })
    local stats = assert(queue:stats())
    assert.same({ 7, 0, 3 }, { stats.ready, stats.leased, stats.finished })
  end)

  it("is told of descriptors that are closed", function()
    local loop = loops.new()
    local client = connect(loop)
    local co = coroutine.create(function() return client:blpop("nothing", 5) end)
    local _, fd = coroutine.resume(co)
    while loop.turn() and not loop.forgotten[1] do
      if coroutine.status(co) == "suspended" and client:stats().in_use == 1 then break end
    end
    assert(coroutine.close(co))
    assert.equal(fd, loop.forgotten[#loop.forgotten])
    client:close()
  end)
end)
