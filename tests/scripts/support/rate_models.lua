-- SPDX-License-Identifier: MIT
-- What each rate limit should answer, from its definition: models keep every grant, and count afresh each time.
-- A model has capacity, extra (the script's fourth argument), limit and window as the script gets them, and
--   look(now) -> free, used, reset      wait(now, cost) -> us, or -1      take(now, units)      give(now, units)
-- When all was given back the key is gone, and the time it held with it.
local M = {}

local function gcd(a, b) return b == 0 and a or gcd(b, a % b) end

-- Newest time seen by a write: no time below it counts.
local function at_of(self, now) return math.max(now, self.last or 0) end

-- Units of a list of {time, units} from `from` until before `to`.
local function sum(list, from, to)
  local total = 0
  for _, grant in ipairs(list) do
    if grant[1] >= from and grant[1] < to then total = total + grant[2] end
  end
  return total
end

local function record(self, time, units)
  local newest = self.grants[#self.grants]
  if newest and newest[1] == time then newest[2] = newest[2] + units
  else self.grants[#self.grants + 1] = {time, units} end
end

-- Takes units away from the oldest grants at or after `from`.
local function forget(self, from, units)
  for _, grant in ipairs(self.grants) do
    if grant[1] >= from then
      local taken = math.min(grant[2], units)
      grant[2], units = grant[2] - taken, units - taken
    end
  end
end

-- Least time from `now` on at which `fits`, among the given instants.
local function first(now, instants, fits)
  table.sort(instants)
  for _, instant in ipairs(instants) do
    if instant > now and fits(instant) then return instant - now end
  end
  error("it never fits")
end

function M.gcra(limit, window, burst)
  local common = gcd(limit, window)
  local m = {algorithm = "gcra", limit = limit // common, window = window // common, extra = burst,
    capacity = burst, rate = limit, period = window, parts = 0}
  local function level(now)
    local at = at_of(m, now)
    return math.max(0, m.parts - (at - (m.last or at)) * limit), at
  end
  function m.look(now)
    local parts, at = level(now)
    return math.max((burst * window - parts) // window, 0), (parts + window - 1) // window,
      parts > 0 and (parts + limit - 1) // limit + at - now or 0
  end
  function m.wait(now, cost)
    if cost > burst then return -1 end
    local parts, at = level(now)
    return (parts + cost * window - burst * window + limit - 1) // limit + at - now
  end
  function m.take(now, units)
    local parts, at = level(now)
    m.parts, m.last = parts + units * window, at
  end
  function m.give(now, units)
    local parts, at = level(now)
    m.parts, m.last = math.max(parts - units * window, 0), at
    if m.parts == 0 then m.last = nil end
  end
  return m
end

function M.fixed_window(limit, window, aligned)
  local m = {algorithm = "fixed_window", limit = limit, window = window, extra = aligned and 1 or 0,
    capacity = limit, used = 0}
  local function begin(now)
    local at = math.max(now, m.start or 0)
    if aligned then
      local start = at // window * window
      return start, m.start == start and m.used or 0
    end
    if m.start and at < m.start + window then return m.start, m.used end
    return at, 0
  end
  function m.look(now)
    local start, used = begin(now)
    return math.max(limit - used, 0), used, used > 0 and start + window - now or 0
  end
  function m.wait(now, cost)
    if cost > limit then return -1 end
    return begin(now) + window - now
  end
  function m.take(now, units)
    local start, used = begin(now)
    m.start, m.used = start, used + units
  end
  function m.give(now, units)
    local start, used = begin(now)
    m.start, m.used = start, math.max(used - units, 0)
    if m.used == 0 then m.start = nil end
  end
  return m
end

function M.sliding_window(limit, window)
  local m = {algorithm = "sliding_window", limit = limit, window = window, extra = 0, capacity = limit, grants = {}}
  -- Time is held by the start of a window: `last` is where the newest one with a grant begins.
  local function counts(now)
    local at = at_of(m, now)
    local from = at // window * window
    return sum(m.grants, from, from + window), sum(m.grants, from - window, from), from, at
  end
  local function fits(current, previous, elapsed, cost)
    return previous * (window - elapsed) + (current + cost) * window <= limit * window
  end
  function m.look(now)
    local current, previous, from, at = counts(now)
    local free = 0
    local room = limit * window - current * window - previous * (window - (at - from))
    if room > 0 then free = room // window end
    local reset = current > 0 and from + 2 * window - now or previous > 0 and from + window - now or 0
    return free, current + previous, reset
  end
  -- Searched, not solved: halves each of the windows to come.
  function m.wait(now, cost)
    if cost > limit then return -1 end
    local current, previous, from, at = counts(now)
    for _, w in ipairs {{current, previous, from}, {0, current, from + window}, {0, 0, from + 2 * window}} do
      local low, high = math.max(at, w[3]) - w[3] - 1, window
      while high - low > 1 do
        local middle = (low + high) // 2
        if fits(w[1], w[2], middle, cost) then high = middle else low = middle end
      end
      if high < window then return w[3] + high - now end
    end
  end
  function m.take(now, units)
    local _, _, from, at = counts(now)
    record(m, at, units)
    m.last = from
  end
  function m.give(now, units)
    local _, _, from = counts(now)
    forget(m, from - window, units)
    m.last = from
    if sum(m.grants, from - window, from + window) == 0 then m.last, m.grants = nil, {} end
  end
  return m
end

function M.buckets(limit, window, count)
  local size = (window + count - 1) // count
  local m = {algorithm = "buckets", limit = limit, window = window, extra = count, capacity = limit, grants = {}}
  local function oldest(now) return (at_of(m, now) // size - count) * size end
  local function used_at(now) return sum(m.grants, oldest(now), math.maxinteger) end
  local function leaving(now)
    local instants = {}
    for _, grant in ipairs(m.grants) do
      if grant[1] >= oldest(now) and grant[2] > 0 then
        instants[#instants + 1] = (grant[1] // size + count + 1) * size
      end
    end
    return instants
  end
  function m.look(now)
    local used = used_at(now)
    local reset = used > 0 and first(now, leaving(now), function(t) return used_at(t) == 0 end) or 0
    return math.max(limit - used, 0), used, reset
  end
  function m.wait(now, cost)
    if cost > limit then return -1 end
    return first(now, leaving(now), function(t) return used_at(t) + cost <= limit end)
  end
  function m.take(now, units)
    local at = at_of(m, now)
    record(m, at, units)
    m.last = at // size * size
  end
  function m.give(now, units)
    forget(m, oldest(now), units)
    m.last = at_of(m, now) // size * size
    if used_at(now) == 0 then m.last, m.grants = nil, {} end
  end
  return m
end

function M.sliding_log(limit, window)
  local m = {algorithm = "sliding_log", limit = limit, window = window, extra = 0, capacity = limit, grants = {}}
  local function used_at(now) return sum(m.grants, at_of(m, now) - window + 1, math.maxinteger) end
  local function leaving(now)
    local instants = {}
    for _, grant in ipairs(m.grants) do
      if grant[1] > at_of(m, now) - window and grant[2] > 0 then instants[#instants + 1] = grant[1] + window end
    end
    return instants
  end
  function m.look(now)
    local used = used_at(now)
    return math.max(limit - used, 0), used,
      used > 0 and first(now, leaving(now), function(t) return used_at(t) == 0 end) or 0
  end
  function m.wait(now, cost)
    if cost > limit then return -1 end
    return first(now, leaving(now), function(t) return used_at(t) + cost <= limit end)
  end
  function m.take(now, units)
    m.last = at_of(m, now)
    record(m, m.last, units)
  end
  function m.give(now, units)
    local from = at_of(m, now) - window + 1
    forget(m, from, units)
    while m.grants[1] and m.grants[1][1] < from do table.remove(m.grants, 1) end -- ended, for ever
    if used_at(now) == 0 then m.last, m.grants = nil, {} end
  end
  return m
end

-- Answers as rate_allow: status, granted, place, remaining, retry, reset.
function M.allow(model, now, cost, partial)
  local free, _, reset = model.look(now)
  local need, granted = partial and 1 or cost, math.min(cost, free)
  if granted < need then return {0, 0, 1, free, model.wait(now, need), reset} end
  model.take(now, granted)
  local _, _, later = model.look(now)
  return {1, granted, 1, free - granted, 0, later}
end

function M.peek(model, now)
  local free, _, reset = model.look(now)
  if free > 0 then return {1, 0, 1, free, 0, reset} end
  return {0, 0, 1, 0, model.wait(now, 1), reset}
end

function M.refund(model, now, units)
  local _, used = model.look(now)
  local back = math.min(units, used)
  if back > 0 then model.give(now, back) end
  local free, _, reset = model.look(now)
  return {1, back, 1, free, 0, reset}
end

return M
