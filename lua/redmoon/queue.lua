-- SPDX-License-Identifier: MIT
-- queue:work(handler, options): takes jobs and runs them, one after the other, until it is told to stop.

local core = require "redmoon.core"

local M = {}

local LOOK = 1 -- seconds: how often `stop` is asked while there is no job
local FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5

-- Failures that pass; whatever else a pop ends with will not be better next time.
local PASSING = {}
for code in ("TIMEOUT CONNECT IO TLS POOL_TIMEOUT LOADING READONLY MASTERDOWN BUSY TRYAGAIN CLUSTERDOWN OOM MISCONF "
  .. "NOREPLICAS UNAVAILABLE"):gmatch("%u[%u_]+") do
  PASSING[code] = true
end

local function check_option(options, name, kind)
  local value = options[name]
  if value ~= nil and type(value) ~= kind then
    error(("option '%s': a %s is not accepted; it takes a %s"):format(name, type(value), kind), 4)
  end
  return value
end

local KNOWN = { concurrency = true, stop = true, on_error = true }

local function read_options(options)
  if options == nil then options = {} end
  if type(options) ~= "table" then error("work: a table of options expected, got " .. type(options), 3) end
  for name in pairs(options) do
    if not KNOWN[name] then
      error(("unknown option '%s' (known are: concurrency, on_error, stop)"):format(tostring(name)), 3)
    end
  end
  local concurrency = options.concurrency == nil and 1 or options.concurrency
  if math.type(concurrency) ~= "integer" or concurrency < 1 or concurrency > 500 then
    error("option 'concurrency': it takes an integer from 1 to 500", 3)
  end
  return concurrency, check_option(options, "stop", "function") or function() return false end,
    check_option(options, "on_error", "function") or function() end
end

-- Says once more what the server may not have heard, for as long as the lease runs.
local function insist(queue, job, say)
  local pause = FIRST_PAUSE
  while true do
    local ok, message, code, detail = say()
    if ok or code == "LOST" or code == "CLOSED" or not job:held() or not PASSING[code] then
      return ok, message, code, detail
    end
    core.queue_sleep(queue, pause)
    pause = math.min(pause * 2, LONGEST_PAUSE)
  end
end

-- What is to become of a job whose handler has returned: nil if that is good, else why it failed.
local function failure_of(ok, ...)
  if not ok then return tostring((...)) end
  local first, why = ...
  if first == nil and why ~= nil then return tostring(why) end
  return nil
end

local function end_well(worker, job)
  local ok, message, code, detail = insist(worker.queue, job, function() return job:ack() end)
  if ok then worker.counts.done = worker.counts.done + 1 end
  return ok, message, code, detail
end

local function end_badly(worker, job, why, fatal)
  worker.counts.failed = worker.counts.failed + 1
  return insist(worker.queue, job, function() return job:nack { error = why, fatal = fatal } end)
end

-- As the handler said.
local function finish(worker, job, why)
  if not job.ended then
    if why then return end_badly(worker, job, why) end
    return end_well(worker, job)
  end
  local kind = why and "failed" or "done"
  worker.counts[kind] = worker.counts[kind] + 1
  return true
end

local function run_one(worker, job)
  if job.payload == nil then return end_badly(worker, job, "its payload cannot be decoded", true) end
  return finish(worker, job, failure_of(pcall(worker.handler, job)))
end

local function run(worker, job)
  local ok, message, code, detail = run_one(worker, job)
  if not ok then
    worker.counts.lost = worker.counts.lost + 1
    worker.on_error(message, code, detail, job.id)
  end
  job:close()
end

-- Runs jobs that were taken; those that were not begun when it is to stop are given back.
local function run_all(worker, jobs)
  for _, job in ipairs(jobs) do
    if worker.stop() then
      job:close()
      worker.counts.released = worker.counts.released + 1
    else
      run(worker, job)
    end
  end
end

-- handler(job): the job is done when it returns.  When it raises, or returns nil and a message, the job failed by that.
-- Returns {done=, failed=, lost=, released=} after stop() was true; nil, message, code, detail when jobs cannot be had
-- and waiting is of no use.
function M.work(queue, handler, options)
  if type(handler) ~= "function" then error("work: a function expected, got " .. type(handler), 2) end
  local concurrency, stop, on_error = read_options(options)
  local worker = { queue = queue, handler = handler, stop = stop, on_error = on_error,
    counts = { done = 0, failed = 0, lost = 0, released = 0 } }
  local pause = FIRST_PAUSE
  while not stop() do
    local jobs, message, code, detail = queue:pop_many(concurrency, LOOK, { renew = true })
    if jobs then
      pause = FIRST_PAUSE
      run_all(worker, jobs)
    elseif PASSING[code] then
      on_error(message, code, detail)
      core.queue_sleep(queue, pause)
      pause = math.min(pause * 2, LONGEST_PAUSE)
    else
      return nil, message, code, detail
    end
  end
  return worker.counts
end

return M
