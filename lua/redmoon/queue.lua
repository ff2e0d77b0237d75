-- SPDX-License-Identifier: MIT
-- queue:work(handler, options): takes jobs and runs them until it is told to stop: one after the other, or, inside of an
-- event loop, each in a coroutine of its own.

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

-- One after the other.
local function work_in_turn(worker)
  local pause, jobs = FIRST_PAUSE, {}
  while #jobs > 0 or not worker.stop() do
    local message, code, detail
    if #jobs == 0 then jobs, message, code, detail = worker.queue:pop_many(worker.concurrency, LOOK, { renew = true }) end
    if jobs then
      pause = FIRST_PAUSE
      jobs = run_all(worker, jobs)
    elseif PASSING[code] then
      jobs = {}
      worker.on_error(message, code, detail)
      core.queue_sleep(worker.queue, pause)
      pause = math.min(pause * 2, LONGEST_PAUSE)
    else
      return nil, message, code, detail
    end
  end
  return worker.counts
end

-- In coroutines.

-- The body of a job's coroutine.  However that ends, it is counted and the gate opened.
local function run_in_coroutine(worker, job)
  local _ <close> = setmetatable({}, { __close = function()
    worker.running = worker.running - 1
    worker.gate:open()
  end })
  local ok, message = pcall(function()
    if worker.stop() then
      job:close()
      worker.counts.released = worker.counts.released + 1
    elseif run(worker, job) then
      ack(worker, { job }, 0)
    end
  end)
  if not ok then worker.raised = worker.raised or { message } end
end

-- As many jobs as there is room for.  Like pop_many.
local function spawn_jobs(worker, spawn)
  local jobs, message, code, detail = worker.queue:pop_many(worker.concurrency - worker.running, LOOK, { renew = true })
  for _, job in ipairs(jobs or {}) do
    worker.running = worker.running + 1
    spawn(run_in_coroutine, worker, job)
  end
  return jobs, message, code, detail
end

-- This coroutine takes jobs, and waits for those that run them: also at the end.
local function work_in_coroutines(worker, spawn)
  local pause, failure = FIRST_PAUSE, nil
  local is_over = false -- from then on nothing more is begun
  -- What the caller's functions raise is raised when all jobs have ended.
  local function guarded(fn)
    return function(...)
      local ok, result = pcall(fn, ...)
      if not ok then worker.raised = worker.raised or { result } end
      return not ok or result
    end
  end
  local stop = guarded(worker.stop)
  function worker.stop()
    is_over = is_over or stop()
    return is_over
  end
  worker.on_error = guarded(worker.on_error)
  local _ <close> = setmetatable({}, { __close = function() is_over = true end })
  while worker.running > 0 or not (is_over or worker.stop()) do
    if worker.raised then is_over = true end
    if is_over or worker.running == worker.concurrency or worker.stop() then
      worker.gate:wait(LOOK)
    else
      local jobs, message, code, detail = spawn_jobs(worker, spawn)
      if jobs then
        pause = FIRST_PAUSE
      elseif PASSING[code] then
        worker.on_error(message, code, detail)
        core.queue_sleep(worker.queue, pause)
        pause = math.min(pause * 2, LONGEST_PAUSE)
      else
        failure, is_over = table.pack(nil, message, code, detail), true
      end
    end
  end
  if worker.raised then error(worker.raised[1], 0) end
  if failure then return table.unpack(failure, 1, failure.n) end
  return worker.counts
end

-- handler(job): the job is done when it returns.  When it raises, or returns nil and a message, the job failed by that.
-- Returns {done=, failed=, lost=, released=} after stop() was true; nil, message, code, detail when jobs cannot be had
-- and waiting is of no use.
function M.work(queue, handler, options)
  if type(handler) ~= "function" then error("work: a function expected, got " .. type(handler), 2) end
  local concurrency, stop, on_error = read_options(options)
  local worker = { queue = queue, handler = handler, concurrency = concurrency, stop = stop, on_error = on_error,
    counts = { done = 0, failed = 0, lost = 0, released = 0 } }
  if concurrency == 1 then return work_in_turn(worker) end
  local spawn, gate = core.queue_spawns(queue)
  if not spawn then return work_in_turn(worker) end
  worker.gate, worker.running = gate, 0
  return work_in_coroutines(worker, spawn)
end

-- for event in queue:events([since [, timeout]]): what became of jobs; ends when none comes within `timeout` (0).
function M.events(queue, since, timeout)
  local list, at = {}, 0
  return function()
    at = at + 1
    if not list[at] then
      local message
      list, message = queue:read_events(since, 100, timeout)
      if not list then error(message, 2) end
      at = 1
    end
    since = list[at] and list[at].place or since
    return list[at]
  end
end

return M
