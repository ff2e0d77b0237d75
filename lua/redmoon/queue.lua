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

-- Says once more what the server may not have heard, for as long as the lease of `job` runs.
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

local function tell_lost(worker, job, message, code, detail)
  worker.counts.lost = worker.counts.lost + 1
  worker.on_error(message, code, detail, job.id)
end

-- What is to become of a job whose handler has returned: nil if that is good, else why it failed.
local function failure_of(ok, ...)
  if not ok then return tostring((...)) end
  local first, why = ...
  if first == nil and why ~= nil then return tostring(why) end
  return nil
end

local function nack(worker, job, why, fatal)
  worker.counts.failed = worker.counts.failed + 1
  local ok, message, code, detail = insist(worker.queue, job, function()
    return job:nack { error = why, fatal = fatal }
  end)
  if not ok then tell_lost(worker, job, message, code, detail) end
  job:close()
end

-- Runs a job.  True: it is done, and the server is to be told.
local function run(worker, job)
  if job.payload == nil then
    nack(worker, job, "its payload cannot be decoded", true)
    return false
  end
  local why = failure_of(pcall(worker.handler, job))
  if not job.ended then
    if not why then return true end
    nack(worker, job, why)
    return false
  end
  local kind = why and "failed" or "done" -- the handler has told the server itself
  worker.counts[kind] = worker.counts[kind] + 1
  job:close()
  return false
end

-- Tells the server of jobs that are done, and takes up to `count` next ones along.
local function ack(worker, jobs, count)
  if #jobs == 0 then return {} end
  local next_jobs
  local lost, message, code, detail = insist(worker.queue, jobs[1], function()
    local lost_ones, more, why, detail = worker.queue:ack_many(jobs, count)
    count = 0 -- said once more, it takes none
    next_jobs = lost_ones and more or detail and detail.jobs
    return lost_ones, more, why, detail
  end)
  if lost then
    worker.counts.done = worker.counts.done + #jobs - #lost
    for _, job in ipairs(lost) do
      tell_lost(worker, job, "its lease passed to another, or it was removed", "LOST", { outcome = "answered" })
    end
  else
    for _, job in ipairs(jobs) do tell_lost(worker, job, message, code, detail) end
  end
  for _, job in ipairs(jobs) do job:close() end
  return next_jobs or {}
end

-- Runs jobs that were taken; those that were not begun when it is to stop are given back.  The server is told of all that
-- are done at once, but about each second.  Returns the next ones, taken in the same round trip.
local function run_all(worker, jobs)
  local finished, began, stopped = {}, os.time(), false
  for _, job in ipairs(jobs) do
    stopped = stopped or worker.stop()
    if stopped then
      job:close()
      worker.counts.released = worker.counts.released + 1
    elseif run(worker, job) then
      finished[#finished + 1] = job
    end
    if os.time() ~= began then
      ack(worker, finished, 0)
      finished, began = {}, os.time()
    end
  end
  return ack(worker, finished, stopped and 0 or worker.concurrency)
end

-- handler(job): the job is done when it returns.  When it raises, or returns nil and a message, the job failed by that.
-- Returns {done=, failed=, lost=, released=} after stop() was true; nil, message, code, detail when jobs cannot be had
-- and waiting is of no use.
function M.work(queue, handler, options)
  if type(handler) ~= "function" then error("work: a function expected, got " .. type(handler), 2) end
  local concurrency, stop, on_error = read_options(options)
  local worker = { queue = queue, handler = handler, concurrency = concurrency, stop = stop, on_error = on_error,
    counts = { done = 0, failed = 0, lost = 0, released = 0 } }
  local pause, jobs = FIRST_PAUSE, {}
  while #jobs > 0 or not stop() do
    local message, code, detail
    if #jobs == 0 then jobs, message, code, detail = queue:pop_many(concurrency, LOOK, { renew = true }) end
    if jobs then
      pause = FIRST_PAUSE
      jobs = run_all(worker, jobs)
    elseif PASSING[code] then
      jobs = {}
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
