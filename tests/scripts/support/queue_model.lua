-- SPDX-License-Identifier: MIT
-- A queue as its scripts have to answer: every job is a table, and its state is a word.  Times are in microseconds.
local M = {}
M.__index = M

M.LOOK = 1000000
local NUMBERS = {ready = 1, delayed = 2, leased = 3, dead = 4, done = 5}
local FAR = math.huge

function M.new()
  return setmetatable({jobs = {}, unique = {}, requests = {}, seq = 0, epoch = 0, keep = 0, pushed = 0, finished = 0,
    removed = 0, paused = false, wake = false, turn = 0, own = 0, groups = {}, events = {}}, M)
end

-- What is told of a job.
local function tell(self, event, job)
  self.events[#self.events + 1] = ("%s %s %d"):format(event, job.id, job.epoch)
end

-- The jobs of a state, in the order of their set.
function M:list(state)
  local list = {}
  for _, job in pairs(self.jobs) do
    if job.state == state then list[#list + 1] = job end
  end
  table.sort(list, function(a, b)
    if state == "ready" then
      if a.priority ~= b.priority then return a.priority > b.priority end
      return a.seq < b.seq
    end
    if a.at ~= b.at then return a.at < b.at end
    return a.id < b.id
  end)
  return list
end

-- Groups: those that have a turn have it by their first job's priority.

local function group_of(self, name)
  local g = self.groups[name] or {name = name, turn = 0, over = 0, started = 0, concurrency = -1, limit = -1, window = -1}
  self.groups[name] = g
  return g
end

local function goes_first(a, b)
  if a.priority ~= b.priority then return a.priority > b.priority end
  return a.seq < b.seq
end

-- The first ready job of a group, or of those without one (nil).
local function head_of(self, name)
  local head
  for _, job in pairs(self.jobs) do
    if job.state == "ready" and job.group == name and (not head or goes_first(job, head)) then head = job end
  end
  return head
end

-- As it is handed out.
local function label(job) return job.group and job.id .. "\0" .. job.group or job.id end

local function rank_of(job, turn) return (1023 - job.priority) * (1 << 42) + turn end

local function next_turn(self)
  self.turn = self.turn + 1
  return self.turn
end

-- After any change of a group; `last`: its turn was taken.
local function settle(self, name, last)
  if not name then return end
  local g = group_of(self, name)
  g.head = head_of(self, name)
  if not g.head or g.full or g.spent then
    g.turn = 0
  elseif g.turn == 0 or last then
    if g.turn == 0 and not self.quiet then self.wake = true end
    g.turn = next_turn(self)
  end
end

local function left(self, job)
  if not job.group then return end
  group_of(self, job.group).full = false
  settle(self, job.group)
end

local function close(g) g.over, g.started, g.spent = 0, 0, false end

local function windows(self, now)
  local list = {}
  for _, g in pairs(self.groups) do
    if g.over > 0 and g.over <= now then list[#list + 1] = g end
  end
  table.sort(list, function(a, b)
    if a.over ~= b.over then return a.over < b.over end
    return a.name < b.name
  end)
  for _, g in ipairs(list) do
    close(g)
    settle(self, g.name)
  end
end

local function first_window(self)
  local at = FAR
  for _, g in pairs(self.groups) do
    if g.over > 0 then at = math.min(at, g.over) end
  end
  return at
end

-- The next job of a group, or nil: its limits are lower by now.
local function take(self, now, g, limits)
  local running, job = 0, nil
  for _, other in pairs(self.jobs) do
    if other.group == g.name and (other.state == "leased" or other.taken) then running = running + 1 end
  end
  local most, limit, window = limits[1], limits[2], limits[3]
  if g.concurrency >= 0 then most = g.concurrency end
  if g.limit >= 0 then limit, window = g.limit, g.window end
  if (most == 0 or running < most) and (limit == 0 or g.started < limit) then
    job = g.head
    job.state, job.taken, running = "taken", true, running + 1
    if limit > 0 then
      if g.over == 0 then g.over = now + window * 1000 end
      g.started = g.started + 1
    end
  end
  g.full, g.spent = most > 0 and running >= most, limit > 0 and g.started >= limit
  settle(self, g.name, true)
  return job
end

-- Up to `count` jobs: the groups and those without one take turns.
local function turns(self, now, count, limits)
  local list = {}
  while #list < count do
    local first, next = head_of(self, nil), nil
    for _, g in pairs(self.groups) do
      if g.turn > 0 and (not next or rank_of(g.head, g.turn) < rank_of(next.head, next.turn)) then next = g end
    end
    if first and not (next and rank_of(next.head, next.turn) < rank_of(first, self.own)) then
      first.state = "taken"
      list[#list + 1] = first
      self.own = next_turn(self)
    elseif next then
      list[#list + 1] = take(self, now, next, limits)
    else
      break
    end
  end
  return list
end

local function place(self)
  self.seq = self.seq + 1
  return self.seq
end

local function first(self)
  local at = FAR
  for _, job in pairs(self.jobs) do
    if job.state == "delayed" or job.state == "leased" then at = math.min(at, job.at) end
  end
  return at
end

local function unkept(self, now, due)
  return due < now + M.LOOK and not (self.keep >= now and self.keep <= due)
end

local function forget(self, job)
  if self.unique[job.unique] == job then self.unique[job.unique] = nil end
  self.jobs[job.id] = nil
end

local function die(self, job, now)
  if self.unique[job.unique] == job then self.unique[job.unique] = nil end
  job.state, job.at = "dead", now
end

-- items: lists of {id, payload, priority, delay ms, attempts, crashes, unique}; silent: nothing is told of them
function M:push(now, items, request, silent)
  if request and self.requests[request] then return self.requests[request] end
  local answer, due, any, grouped = {1}, FAR, false, {}
  for _, item in ipairs(items) do
    local there = self.jobs[item[1]]
    if there and there.state == "done" and there.at <= now then forget(self, there) end
  end
  for _, item in ipairs(items) do
    local id, unique = item[1], item[7]
    if self.jobs[id] then
      answer[#answer + 1], answer[#answer + 2] = 0, id
    elseif unique ~= "" and self.unique[unique] then
      answer[#answer + 1], answer[#answer + 2] = -1, self.unique[unique].id
    else
      local job = {id = id, payload = item[2], priority = item[3], attempts = item[5], most = item[6], unique = unique,
        group = item[8], seq = place(self), failures = 0, crashes = 0, epoch = 0, why = "", state = "ready"}
      if item[4] > 0 then
        job.state, job.at = "delayed", now + item[4] * 1000
        due = math.min(due, job.at)
      end
      any = any or item[4] == 0 and not item[8]
      if item[4] == 0 and item[8] then grouped[#grouped + 1] = item[8] end
      self.jobs[id] = job
      if unique ~= "" then self.unique[unique] = job end
      self.pushed = self.pushed + 1
      answer[#answer + 1], answer[#answer + 2] = 1, id
    end
  end
  for _, name in ipairs(grouped) do settle(self, name) end
  for i = 2, silent and 0 or #answer, 2 do
    local job = self.jobs[answer[i + 1]]
    if answer[i] == 1 then tell(self, job.state == "delayed" and "delayed" or "added", job) end
  end
  if any or unkept(self, now, due) then self.wake = true end
  if request then self.requests[request] = answer end
  return answer
end

local function move_on(self, now)
  for _, job in ipairs(self:list("delayed")) do
    if job.at <= now then
      job.state, job.seq = "ready", place(self)
      settle(self, job.group)
    end
  end
  for _, job in ipairs(self:list("leased")) do
    if job.at <= now then
      job.crashes, job.state = job.crashes + 1, "left"
      tell(self, job.crashes < job.most and "stalled" or "dead", job)
      left(self, job)
      if job.crashes < job.most then
        job.state = "ready"
        settle(self, job.group)
      else
        job.why = "its lease ended before it was done"
        die(self, job, now)
      end
    end
  end
end

local function expire(self, now)
  for _, job in ipairs(self:list("done")) do
    if job.at <= now then forget(self, job) end
  end
end

-- What a request was given: those jobs of it that are still leased to it, with leases that begin anew.
local function given_again(self, now, given, lease)
  local answer = {1, M.LOOK, 0}
  for i = 1, #given, 2 do
    local job = self.jobs[given[i]:match("^%Z*")]
    if job and job.state == "leased" and job.epoch == given[i + 1] then
      job.at = math.max(job.at, now + lease * 1000)
      for _, value in ipairs {label(job), job.epoch, job.failures + job.crashes + 1, job.payload} do
        answer[#answer + 1] = value
      end
    end
  end
  return answer[4] and answer or {-1}
end

function M:request(now, count, lease, waits, keeps, limits, request)
  local given = self.requests[request]
  if given then return given_again(self, now, given, lease) end
  local answer = self:pop(now, count, lease, waits, keeps, limits)
  if answer[4] then
    given = {}
    for i = 4, #answer, 4 do given[#given + 1], given[#given + 2] = answer[i], answer[i + 1] end
    self.requests[request] = given
  end
  return answer
end

-- Whether there is a job that may be handed out.
local function waits_for_turn(self)
  for _, g in pairs(self.groups) do
    if g.turn > 0 then return true end
  end
  return head_of(self, nil) ~= nil
end

function M:pop(now, count, lease, waits, keeps, limits, answer)
  answer, self.quiet = answer or {1}, true
  if keeps then self.keep = 0 end
  move_on(self, now)
  windows(self, now)
  local head, next_epoch = #answer, math.max(self.epoch + 1, now)
  answer[head + 1], answer[head + 2] = M.LOOK, 0
  local found = false
  local closed = first_window(self)
  if self.turn == 0 then self.own = 0 end
  local popped = self.paused and {} or self.turn > 0 and turns(self, now, count, limits) or self:list("ready")
  for i, job in ipairs(popped) do
    if i > count then break end
    found = true
    job.state, job.at, job.epoch, job.taken = "leased", now + lease * 1000, next_epoch, nil
    tell(self, "active", job)
    for _, value in ipairs {label(job), job.epoch, job.failures + job.crashes + 1, job.payload} do
      answer[#answer + 1] = value
    end
    self.epoch = next_epoch
    next_epoch = next_epoch + 1
  end
  local due = math.min(first(self), first_window(self), closed)
  self.quiet = false
  if not found then expire(self, now) end
  if unkept(self, now, due) then
    if not found then answer[head + 1] = math.max(due - now, 0) end
    if found or not waits then self.wake = true -- somebody else has to keep the time
    else answer[head + 2], self.keep = 1, due end
  end
  if not self.paused and waits_for_turn(self) then self.wake = true end
  return answer
end

-- The job if it is leased under this epoch; else nil and the code.
local function leased(self, id, epoch)
  local job = self.jobs[id]
  if not job then return nil, {0} end
  if job.state ~= "leased" or job.epoch ~= epoch then return nil, {-1} end
  return job
end

function M:ack(now, id, epoch, retention, result, count, lease, limits)
  local job, refusal = leased(self, id, epoch)
  if not job then
    local there = self.jobs[id]
    if not (there and there.state == "done" and there.epoch == epoch) then return refusal end
  else
    self.finished, job.state, self.quiet = self.finished + 1, "left", count > 0
    tell(self, "completed", job)
    left(self, job)
    if retention > 0 then
      if self.unique[job.unique] == job then self.unique[job.unique] = nil end
      job.state, job.at, job.payload, job.why, job.note = "done", now + retention * 1000, "", "", result
      expire(self, now)
    else
      forget(self, job)
    end
  end
  self.quiet = false
  if count == 0 then return {1} end
  return self:pop(now, count, lease, false, false, limits)
end

-- list: ids and epochs
function M:ack_many(now, retention, count, lease, list, limits)
  local answer, ended = {1}, {}
  for i = 1, #list, 2 do
    local job, refusal = leased(self, list[i], list[i + 1])
    local there = self.jobs[list[i]]
    if job and not ended[job] then ended[job], ended[#ended + 1] = true, job end
    local again = there and there.state == "done" and there.epoch == list[i + 1]
    answer[#answer + 1] = (job or again) and 1 or refusal[1]
  end
  self.quiet = count > 0
  for _, job in ipairs(ended) do job.state = "left" end
  for _, job in ipairs(ended) do
    self.finished = self.finished + 1
    tell(self, "completed", job)
    left(self, job)
    if retention > 0 then
      if self.unique[job.unique] == job then self.unique[job.unique] = nil end
      job.state, job.at, job.payload, job.why, job.note = "done", now + retention * 1000, "", "", nil
    else
      forget(self, job)
    end
  end
  self.quiet = false
  if next(ended) and retention > 0 then expire(self, now) end
  if count == 0 then return answer end
  return self:pop(now, count, lease, false, false, limits, answer)
end

function M:nack(now, id, epoch, delay, why, fatal)
  local job, refusal = leased(self, id, epoch)
  if not job then return refusal end
  job.failures, job.why, job.state = job.failures + 1, why, "left"
  left(self, job)
  if fatal or job.failures >= job.attempts then
    die(self, job, now)
    tell(self, "dead", job)
    return {2}
  end
  tell(self, "failed", job)
  if delay > 0 then
    job.state, job.at = "delayed", now + delay * 1000
    if unkept(self, now, job.at) then self.wake = true end
  else
    job.state, job.seq, self.wake = "ready", place(self), true
    settle(self, job.group)
  end
  return {1}
end

-- pairs of id and epoch
function M:release(_, list)
  local answer = {1}
  for i = 1, #list, 2 do
    local job, refusal = leased(self, list[i], list[i + 1])
    if job then
      job.state = "left"
      left(self, job)
      tell(self, "released", job)
      job.state, self.wake = "ready", true
      settle(self, job.group)
    end
    answer[#answer + 1] = job and 1 or refusal[1]
  end
  return answer
end

function M:extend(now, lease, list)
  local answer = {1}
  for i = 1, #list, 2 do
    local job, refusal = leased(self, list[i], list[i + 1])
    if job then job.at = math.max(job.at, now + lease * 1000) end
    answer[#answer + 1] = job and 1 or refusal[1]
  end
  return answer
end

function M:progress(_, id, epoch, note)
  local job, refusal = leased(self, id, epoch)
  if not job then return refusal end
  job.note = note
  tell(self, "progress", job)
  return {1}
end

function M:stats(now)
  local answer = {1}
  for _, state in ipairs {"ready", "delayed", "leased", "dead", "done"} do answer[#answer + 1] = #self:list(state) end
  for _, value in ipairs {self.pushed, self.finished, self.removed, self.paused and 1 or 0} do
    answer[#answer + 1] = value
  end
  local due, grouped, turning = math.min(first(self), first_window(self)), 0, 0
  for _, job in pairs(self.jobs) do
    if job.state == "ready" and job.group then grouped = grouped + 1 end
  end
  for _, g in pairs(self.groups) do turning = turning + (g.turn > 0 and 1 or 0) end
  for _, value in ipairs {due < FAR and math.max(due - now, 0) or -1, grouped, turning} do answer[#answer + 1] = value end
  return answer
end

function M:limits(_, name, concurrency, limit, window)
  local g = group_of(self, name)
  g.concurrency, g.limit, g.window, g.full, g.spent = concurrency, limit, window, false, false
  settle(self, name)
  return {1}
end

function M:pause(_, on)
  local before = self.paused
  self.paused = on
  tell(self, on and "paused" or "resumed", {id = "", epoch = 0})
  if not on then self.wake = true end
  return {1, before and 1 or 0}
end

function M:dead(_, skip, count)
  local list = self:list("dead")
  local answer = {1, #list}
  for i = skip + 1, math.min(skip + count, #list) do
    local job = list[i]
    for _, value in ipairs {job.id, job.at, job.failures, job.crashes, job.priority, job.epoch, job.payload, job.why} do
      answer[#answer + 1] = value
    end
  end
  return answer
end

function M:redrive(_, skip, count)
  local list, moved, kept = self:list("dead"), 0, 0
  for i = skip + 1, math.min(skip + count, #list) do
    local job = list[i]
    if job.unique ~= "" and self.unique[job.unique] then
      kept = kept + 1
    else
      moved = moved + 1
      if job.unique ~= "" then self.unique[job.unique] = job end
      job.state, job.seq, job.failures, job.crashes, self.wake = "ready", place(self), 0, 0, true
      settle(self, job.group)
      tell(self, "redriven", job)
    end
  end
  return {1, moved, kept}
end

function M:peek(now, id)
  local job = self.jobs[id]
  if not job or job.state == "done" and job.at <= now then return {0} end
  return {1, NUMBERS[job.state], job.state == "ready" and 0 or job.at - now, job.priority, job.failures, job.crashes,
    job.attempts, job.most, job.epoch, job.payload, job.unique, job.why, job.note or false,
    job.group or ""}
end

function M:remove(now, id)
  local job = self.jobs[id]
  if not job or job.state == "done" and job.at <= now then return {0} end
  tell(self, "removed", job)
  forget(self, job)
  if job.state ~= "done" then self.removed = self.removed + 1 end
  if job.state == "leased" then left(self, job) else settle(self, job.group) end
  return {1}
end

function M:purge(_, state)
  local list, count = self:list(state), 0
  for i = 1, math.min(#list, 500) do
    forget(self, list[i])
    count = count + 1
  end
  for i = 1, count do settle(self, list[i].group) end
  if state ~= "done" then self.removed = self.removed + count end
  return {1, count, #list - count}
end

return M
