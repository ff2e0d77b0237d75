-- SPDX-License-Identifier: MIT
-- redmoon bench: how fast this server answers this machine, one caller at a time.

local confirm = require "redmoon.cli.confirm"
local connection = require "redmoon.cli.connection"
local failure = require "redmoon.cli.failure"
local format = require "redmoon.cli.format"
local grid = require "redmoon.cli.grid"
local json = require "redmoon.cli.json"
local options = require "redmoon.cli.options"
local redmoon = require "redmoon"
local terminal = require "redmoon.cli.terminal"

local M = {
  name = "bench",
  summary = "Measure commands and patterns on the server; its own keys are removed.",
}

local BATCH = 100

function M.define(command)
  command:option("--seconds", "How long each work is measured."):argname("<n>"):default("1")
    :convert(options.number("--seconds", 0.01, 60))
  command:option("--size", "Bytes of a value."):argname("<n>"):default("16")
    :convert(options.integer("--size", 1, 1048576))
  command:flag("--yes", "Do not ask.")
  command:flag("--json", "Print JSON.")
end

local function must(value, message)
  if value == nil then failure.raise("%s", message) end
  return value
end

-- Each: what it is called, how many commands a call stands for, the call.
local function works(client, prefix, size)
  local key, value = prefix .. ":value", ("x"):rep(size)
  local keep = { ttl = 60 }
  local limiter = client:rate_limiter { algorithm = "gcra", limit = 1000000, window = 60, name = "limit" }
  return {
    { "SET", 1, function() must(client:set(key, value, keep)) end },
    { "GET", 1, function() must(client:get(key)) end },
    { ("pipeline of %d GET"):format(BATCH), BATCH, function()
      must(client:pipeline(function(p) for _ = 1, BATCH do p:get(key) end end))
    end },
    { "lock: acquire, release", 1, function() must(must(client:lock("lock", { ttl = 10 })):release()) end },
    { "rate limit, GCRA", 1, function() must(limiter:allow("caller")) end },
  }
end

-- Every key that the works write.
local function keys_of(prefix)
  return { prefix .. ":value", prefix .. ":{lock}:lock", prefix .. ":{lock}:fence", prefix .. ":{caller}:limit.gcra" }
end

-- Times of calls, sorted, and how long all of them took.
local function measure(call, seconds)
  for _ = 1, 10 do call() end
  local times, now = {}, terminal.now
  local began = now()
  local last = began
  repeat
    call()
    local at = now()
    times[#times + 1] = at - last
    last = at
  until at - began >= seconds and #times >= 10
  table.sort(times)
  return times, last - began
end

local function quantile(sorted, share)
  return sorted[math.max(1, math.ceil(share * #sorted))]
end

local function measure_all(client, prefix, args)
  local results, list = json.array {}, works(client, prefix, args.size)
  for i, work in ipairs(list) do
    local times, took = measure(work[3], args.seconds)
    results[i] = {
      work = work[1], calls = #times, per_second = #times * work[2] / took,
      median = quantile(times, 0.5), p99 = quantile(times, 0.99), max = times[#times],
    }
  end
  return results
end

local function print_results(results)
  local rows = {}
  for i, result in ipairs(results) do
    rows[i] = { result.work, format.count(result.per_second), format.latency(result.median),
      format.latency(result.p99), format.latency(result.max) }
  end
  grid.print({ { title = "work" }, { title = "commands/s", right = true }, { title = "median", right = true },
    { title = "p99", right = true }, { title = "max", right = true } }, rows)
end

-- Runs `body` and removes what it wrote, whatever became of it.
local function cleaned(client, keys, body)
  local done, result = pcall(body)
  local why
  for _, key in ipairs(keys) do
    local removed, message = client:unlink(key)
    why = why or not removed and message
  end
  if not done then error(result, 0) end
  if why then failure.raise("the keys of this run could not be removed: %s", why) end
  return result
end

function M.run(args)
  local prefix = "redmoon-bench-" .. redmoon.new_jti():sub(1, 8)
  local client <close> = connection.open(args, { key_prefix = prefix })
  confirm.ask(args.yes, {
    ("On %s: five works of %gs each, one caller, values of %s."):format(connection.url(client), args.seconds,
      format.plural(args.size, "byte")),
    ("Written are keys that begin with %s: and are removed at the end."):format(prefix),
  })
  local results = cleaned(client, keys_of(prefix), function() return measure_all(client, prefix, args) end)
  if args.json then
    terminal.print("%s", json.encode { url = connection.url(client), size = args.size, works = results })
  else
    print_results(results)
  end
  return failure.FINE
end

return M
