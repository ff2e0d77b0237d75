-- SPDX-License-Identifier: MIT
-- The command-line tool, as a process: what it prints, what it asks, and its exit statuses.

local cli = require "tests.lua.cli_process"
local helper = require "tests.lua.helper"

local quote, run, run_in_terminal = cli.quote, cli.run, cli.run_in_terminal

local function url() return helper.server().url end

-- One line on stderr, nothing on stdout, status 2.
local function assert_error(result, text)
  assert.equal(2, result.status, result.err)
  assert.equal("", result.out)
  assert.is_truthy(result.err:find(text, 1, true), result.err)
  assert.equal(1, select(2, result.err:gsub("\n", "")), result.err)
  assert.is_nil(result.err:find("traceback", 1, true))
end

describe("redmoon", function()
  local client

  setup(function() client = helper.client() end)
  teardown(function() client:close() end)
  before_each(function() assert(client:flushall()) end)

  it("tells its version", function()
    local result = run { "--version" }
    assert.equal("redmoon " .. require("redmoon").version .. "\n", result.out)
    assert.equal(0, result.status)
  end)

  it("tells what it can do", function()
    local help = run { "--help" }
    assert.equal(0, help.status)
    for _, name in ipairs { "demo", "doctor", "audit", "queue", "top", "bench", "completion" } do
      assert.matches("\n   " .. name .. " ", help.out)
      assert.equal(0, run({ name, "--help" }).status)
    end
    local without = run {}
    assert.equal(2, without.status)
    assert.equal("", without.out)
    assert.matches("Usage: redmoon", without.err)
  end)

  it("names the nearest of what it does not know", function()
    assert_error(run { "docter" }, "unknown command 'docter'; did you mean 'doctor'?")
    assert_error(run { "bench", "--jsn" }, "unknown option '--jsn'; did you mean '--json'?")
    assert_error(run { "bench", "--seconds", "0" }, "--seconds: a number from 0.01 to 60 expected, got '0'")
    assert_error(run { "bench", "--size", "9e9" }, "--size: an integer from 1 to 1048576 expected, got '9e9'")
    assert_error(run { "doctor", "--uses", "lock,loc" }, "got 'loc'")
    assert_error(run { "--url", "redis://h/0?pol_size=3", "doctor" }, "did you mean 'pool_size'?")
  end)

  it("says in a line that a server is down", function()
    for _, words in ipairs { { "doctor" }, { "bench", "--yes" } } do
      table.move({ "--url", "unix:///tmp/redmoon-no-such-socket" }, 1, 2, #words + 1, words)
      assert_error(run(words), "/tmp/redmoon-no-such-socket")
    end
  end)

  it("takes the server from $REDIS_URL", function()
    assert_error(run({ "doctor" }, { env = { REDIS_URL = "unix:///tmp/redmoon-no-such-socket" } }), "no-such-socket")
    assert.matches("%d ok", run({ "doctor" }, { env = { REDIS_URL = url() } }).out)
  end)

  it("keeps a wrong password to itself", function()
    assert(client:acl("SETUSER", "app", "reset", "on", ">right", "~*", "+@all"))
    for _, words in ipairs { { "doctor" }, { "doctor", "--json" }, { "bench", "--yes" } } do
      local result = run(words, { env = { REDIS_URL = (url():gsub("//", "//app:s3cr3t@", 1)) } })
      assert_error(result, "WRONGPASS")
      assert.is_nil(result.err:find("s3cr3t", 1, true))
    end
    local result = run({ "doctor" }, { env = { REDIS_URL = (url():gsub("//", "//app:right@", 1)) } })
    assert.matches("user 'app'", result.out)
    assert.is_nil(result.out:find("right", 1, true))
    assert(client:acl("DELUSER", "app"))
  end)

  it("has the options that its page tells of", function()
    local known = {}
    for _, words in ipairs { {}, { "demo" }, { "doctor" }, { "audit" }, { "audit", "fix" }, { "audit", "undo" },
      { "queue", "x", "dead" }, { "queue", "x", "redrive" }, { "queue", "x", "peek" }, { "top" }, { "bench" } } do
      words[#words + 1] = "--help"
      for option in run(words).out:gmatch("\n   (%-%-[%l-]+)") do known[option] = true end
    end
    local count = 0
    for option in cli.read("docs/cli.md"):gmatch("[%s`(](%-%-[%l][%l-]+)") do
      assert.is_true(known[option] or option == "--help", "docs/cli.md: there is no " .. option)
      count = count + 1
    end
    assert.is_true(count > 30)
  end)

  it("complains when its output is lost", function()
    if not io.open("/dev/full", "w") then error("this system has no /dev/full") end
    local _, _, status = os.execute(cli.command({ "--help" }) .. " >/dev/full 2>/dev/null")
    assert.is_truthy(status == 2 or status == 0) -- argparse ends the process itself here
    for _, words in ipairs { { "completion", "bash" }, { "doctor", "--url", url() } } do
      _, _, status = os.execute(cli.command(words) .. " >/dev/full 2>/dev/null")
      assert.equal(2, status)
    end
  end)

  describe("colours", function()
    local function has_colours(text) return text:find("\27[", 1, true) ~= nil end
    local words = { "doctor", "--uses", "rate-limiter", "--url" }

    it("are for terminals", function()
      words[5] = url()
      assert.is_true(has_colours(run_in_terminal(words).out))
      assert.is_false(has_colours(run(words).out))
    end)

    it("go with NO_COLOR, and with a terminal that is dumb", function()
      words[5] = url()
      assert.is_false(has_colours(run_in_terminal(words, { env = { NO_COLOR = "1" } }).out))
      assert.is_true(has_colours(run_in_terminal(words, { env = { NO_COLOR = "" } }).out))
      assert.is_false(has_colours(run_in_terminal(words, { env = { TERM = "dumb" } }).out))
    end)

    it("come and go by --color", function()
      assert.is_true(has_colours(run({ "--color", "always", "doctor", "--url", url() }).out))
      assert.is_false(has_colours(run_in_terminal({ "--color", "never", "doctor", "--url", url() }).out))
    end)
  end)

  describe("demo", function()
    it("runs on a server of its own", function()
      local result = run { "demo", "--server", os.getenv("REDMOON_TEST_SERVER") or "redis-server" }
      assert.equal("", result.err)
      assert.equal(0, result.status)
      for _, seen in ipairs { "LOCKED (answered)", "WRONGTYPE (answered)", "{1, 10, \"hello\"}", "allowed = false",
        "{value = 7, applied = 7}", "{value = 7, applied = 0}", "LOST (answered)",
        "name = \"Ann\", visits = 3", "The server is gone" } do
        assert.is_truthy(result.out:find(seen, 1, true), seen)
      end
    end)

    it("says when there is no server", function()
      assert_error(run { "demo", "--server", "/no/such/program" }, "the demo needs redis-server or valkey-server")
    end)
  end)

  describe("bench", function()
    it("measures, and leaves nothing behind", function()
      assert(client:set("mine", "1"))
      local result = run { "bench", "--yes", "--seconds", "0.02", "--url", url() }
      assert.equal(0, result.status, result.err)
      for _, work in ipairs { "GET", "SET", "pipeline of 100 GET", "lock: acquire, release", "rate limit, GCRA" } do
        assert.matches("\n" .. work .. " +[%d,]+ +%d", result.out)
      end
      assert.matches("keys that begin with redmoon%-bench%-", result.err)
      assert.same({ "mine" }, client:keys("*"))
    end)

    it("prints JSON alone", function()
      local result = run { "bench", "--yes", "--seconds", "0.01", "--json", "--url", url() }
      assert.equal(0, result.status)
      assert.matches("^{.*}\n$", result.out)
      assert.equal(5, select(2, result.out:gsub('"median": 0?%.?%d', "")))
    end)

    it("asks on a terminal, and takes only yes", function()
      local words = { "bench", "--seconds", "0.01", "--url", url() }
      for typed, status in pairs { ["y\n"] = 0, ["yes\n"] = 0, ["n\n"] = 2, ["\n"] = 2 } do
        local result = run_in_terminal(words, { typed = typed })
        assert.equal(status, result.status, result.out)
        assert.is_truthy(result.out:find("Go on? [y/N]", 1, true))
        assert.equal(status == 0, result.out:find("commands/s", 1, true) ~= nil)
      end
    end)

    it("ends with Ctrl-C where it asks", function()
      local keyboard, finish = cli.start_in_terminal { "bench", "--url", url() }
      helper.eventually(client, "the question", function() return cli.has_shown "Go on?" end)
      keyboard:write("\3")
      local result = finish()
      assert.equal(130, result.status, result.out)
      assert.matches("redmoon: interrupted\r\n$", result.out)
      assert.equal(0, client:dbsize())
    end)

    it("does nothing where it cannot ask", function()
      local before = helper.info(client, "stats", "total_commands_processed")
      local result = run { "bench", "--url", url() }
      assert.equal(2, result.status)
      assert.matches("%-%-yes does it\n$", result.err)
      assert.equal(0, client:dbsize())
      assert.is_true(helper.info(client, "stats", "total_commands_processed") - before < 20)
    end)

    it("cleans up after Ctrl-C", function()
      local pid, file = cli.start { "bench", "--yes", "--seconds", "60", "--url", url() }
      helper.eventually(client, "a key of the bench", function() return client:dbsize() > 0 end)
      local result = cli.finish(pid, file, "INT")
      assert.equal(130, result.status)
      assert.matches("redmoon: interrupted\n$", result.err)
      assert.equal(0, client:dbsize())
    end)
  end)

  describe("completion", function()
    local function completed(...)
      local script = cli.path "completion.bash"
      local words = {}
      for i, word in ipairs { "redmoon", ... } do words[i] = quote(word) end
      local reading <close> = assert(io.popen(("bash -c %s"):format(quote(([[
        source %s || exit 1
        COMP_WORDS=(%s) COMP_CWORD=%d COMPREPLY=()
        _redmoon
        printf '%%s\n' "${COMPREPLY[@]}"]]):format(script, table.concat(words, " "), #words - 1)))))
      local list = {}
      for line in reading:lines() do
        if line ~= "" then list[#list + 1] = line end
      end
      return table.concat(list, " ")
    end

    setup(function()
      local result = run { "completion", "bash" }
      assert.equal(0, result.status)
      local file <close> = assert(io.open(cli.path "completion.bash", "w"))
      file:write(result.out)
    end)

    it("for bash completes commands, options and their words", function()
      assert.is_true(os.execute("bash -n " .. cli.path "completion.bash"))
      assert.equal("doctor", completed("doc"))
      assert.matches("demo .*bench", completed(""))
      assert.equal("bash zsh", completed("completion", ""))
      assert.equal("--pool-size --processes", completed("doctor", "--p"))
      assert.equal("auto always never", completed("doctor", "--color", ""))
      assert.equal("--seconds --size", completed("--url", "demo", "bench", "--s"))
      assert.equal("", completed("bench", "--size", ""))
      assert.equal("fix undo", completed("audit", "--json", ""))
      assert.equal("--json", completed("audit", "--j"))
      assert.equal("--jitter", completed("audit", "fix", "--j"))
      assert.equal("CMakeLists.txt", completed("audit", "--resume", "CMakeL"))
      assert.equal("CMakeLists.txt", completed("audit", "undo", "CMakeL"))
      assert.equal("", completed("queue", "st"))
      assert.equal("stats", completed("queue", "purge", "st"))
      assert.equal("ready delayed dead done", completed("queue", "mails", "purge", ""))
      assert.equal("--count --color", completed("queue", "mails", "redrive", "--c"))
    end)

    it("for zsh is a function of the kind it looks for", function()
      local result = run { "completion", "zsh" }
      assert.equal(0, result.status)
      assert.matches("^#compdef redmoon\n", result.out)
      assert.matches('": :%(bash zsh%)"', result.out)
      assert.matches('%-%-server%[[^\n]*: :_files"', result.out)
      assert.is_nil(result.out:find("%-%-url%[[^\n]*_files"))
    end)

    it("for another shell is refused", function()
      assert_error(run { "completion", "fish" }, "'bash', 'zsh'")
    end)
  end)
end)
