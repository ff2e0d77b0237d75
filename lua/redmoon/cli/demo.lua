-- SPDX-License-Identifier: MIT
-- redmoon demo: some patterns at work on a private server.  Each line of Lua that is shown is the line that is run.

local failure = require "redmoon.cli.failure"
local redmoon = require "redmoon"
local terminal = require "redmoon.cli.terminal"

local M = {
  name = "demo",
  summary = "Show patterns at work on a private server that ends with the demo.",
}

-- A text is a heading; a table is a line of code, and how its result is shown.
local steps = {
  "Values that end",
  { [[return client:set("greeting", "hello", {ttl = 60}), client:get("greeting")]] },
  { [[return client:get("nothing")]] },

  "An error says what happened, and whether the command was executed",
  { [[return client:lpush("greeting", "x")]] },

  "A pipeline: many commands, one round trip",
  { [[return client:pipeline(function(p) p:incr("hits"); p:incrby("hits", 9); p:get("greeting") end)]] },

  "A rate limit: 2 in 10 seconds",
  { [[limiter = client:rate_limiter{algorithm = "sliding_log", limit = 2, window = 10}]] },
  { [[return limiter:allow("user:42").allowed, limiter:allow("user:42").allowed]] },
  { [[return limiter:allow("user:42")]], fields = { "allowed", "remaining", "retry_after" } },

  "A quota of 10 a day; a request that is made twice counts once",
  { [[quota = client:counter("quota", {calendar = "day", min = 0, max = 10})]] },
  { [[return quota:increment("tenant:7", 7, {request_id = "order-1001"})]], fields = { "value", "applied" } },
  { [[return quota:increment("tenant:7", 7, {request_id = "order-1001"})]], fields = { "value", "applied" } },
  { [[return quota:increment("tenant:7", 5)]], fields = { "value", "applied" } },

  "A lock that two want; its fence rises with every holder",
  { [[lock = client:lock("report", {ttl = 5})]] },
  { [[return lock.fence, lock:held()]] },
  { [[return client:lock("report", {ttl = 5})]] },
  { [[return lock:release(), client:lock("report", {ttl = 5}).fence]] },

  "At most two at a time",
  { [[backend = client:semaphore("backend", {permits = 2, ttl = 10})]] },
  { [[first, second = backend:acquire(), backend:acquire()]] },
  { [[return backend:acquire()]] },

  "A queue whose jobs outlive their worker: this one takes a job and dies",
  { [[mails = client:queue("mails", {lease = 0.1})]] },
  { [[return mails:push({to = "ann", text = "hello"}, {id = "mail-1"})]] },
  { [[taken = mails:pop()]] },
  { [[job = mails:pop(2)]] },
  { [[return job.id, job.payload.to, job.epoch > taken.epoch]] },
  { [[return job:ack()]] },
  { [[return taken:ack()]] },

  "A record: a hash with a schema, checked and written with its lifetime in one step",
  { [[users = client:records("user", {fields = {name = "string", visits = "integer"}, ttl = 3600})]] },
  { [[return users:save("42", {name = "Ann", visits = 1}), users:increment("42", "visits", 2)]] },
  { [[return users:load("42")]], fields = { "name", "visits" } },
}

local function value_text(value, fields)
  if redmoon.is_error(value) then return "error " .. value.code end
  if value == redmoon.null then return "null" end
  if type(value) == "string" then return ("%q"):format(value) end
  if math.type(value) == "integer" then return tostring(value) end
  if type(value) == "number" then return (("%.3f"):format(value):gsub("%.?0+$", "")) end
  if type(value) ~= "table" then return tostring(value) end
  local parts = {}
  for _, name in ipairs(fields or {}) do parts[#parts + 1] = name .. " = " .. value_text(value[name]) end
  for _, each in ipairs(value) do parts[#parts + 1] = value_text(each) end
  return "{" .. table.concat(parts, ", ") .. "}"
end

local function result_text(step, results)
  if results.n == 4 and results[1] == nil then
    local detail = results[4]
    return terminal.paint("warning", ("%s (%s): %s"):format(results[3], detail.outcome, results[2]))
  end
  local parts = {}
  for i = 1, results.n do parts[i] = value_text(results[i], step.fields) end
  return terminal.paint("accent", table.concat(parts, "  "))
end

local function show(step, environment)
  local code = step[1]
  terminal.print("  %s", code)
  local results = table.pack(assert(load(code, "=demo", "t", environment))())
  if results.n > 0 then terminal.print("    %s %s", terminal.paint("dim", "-->"), result_text(step, results)) end
end

function M.define(command)
  command:option("--server", "Program of the private server; else redis-server or valkey-server of $PATH.")
    :argname("<file>")
end

function M.run(args)
  local server <close>, message = redmoon.embedded { server = args.server }
  if not server then failure.raise("the demo needs redis-server or valkey-server: %s", message) end
  local client <close> = failure.check("the private server", server:connect { client_name = "redmoon-demo" })
  terminal.print("%s on a private server; no other is touched.",
    terminal.paint("bold", "Redmoon " .. redmoon.version))
  local environment = setmetatable({ client = client }, { __index = _G })
  for _, step in ipairs(steps) do
    if type(step) == "string" then
      terminal.print("")
      terminal.title(step)
    else
      show(step, environment)
    end
  end
  terminal.print("")
  terminal.print("%s The server is gone, and its data with it. Next: redmoon doctor", terminal.paint("good", "Done."))
  return failure.FINE
end

return M
