-- SPDX-License-Identifier: MIT
-- Just enough of a server, in memory, to run the scripts of locks and blocklists without one: hashes, strings, sorted
-- sets, lifetimes, and a clock that the test sets.  Times are microseconds; lifetimes are in milliseconds, as on the
-- server, whose keys live by a clock in whole ms that is up to one behind TIME: state.ahead, microseconds.
local M = {}

local function new_state() return {now = 1000000000, keys = {}} end

local function live(state, key)
  local entry = state.keys[key]
  if entry and entry.ends and entry.ends <= state.now then
    state.keys[key] = nil
    return nil
  end
  return entry
end

local commands = {}

function commands.TIME(state)
  local time = state.now + (state.ahead or 0)
  return {tostring(time // 1000000), tostring(time % 1000000)}
end

function commands.HMGET(state, key, ...)
  local entry, out = live(state, key), {}
  for i, field in ipairs {...} do out[i] = entry and entry.hash[field] or false end
  return out
end

function commands.HGET(state, key, field)
  return commands.HMGET(state, key, field)[1]
end

function commands.HSET(state, key, ...)
  local entry = live(state, key) or {hash = {}}
  state.keys[key] = entry
  local pairs_given = {...}
  for i = 1, #pairs_given, 2 do entry.hash[pairs_given[i]] = pairs_given[i + 1] end
  return #pairs_given // 2
end

function commands.HSETNX(state, key, field, value)
  local entry = live(state, key)
  if entry and entry.hash[field] then return 0 end
  return commands.HSET(state, key, field, value)
end

function commands.HLEN(state, key)
  local entry, count = live(state, key), 0
  for _ in pairs(entry and entry.hash or {}) do count = count + 1 end
  return count
end

function commands.HDEL(state, key, field)
  local entry = live(state, key)
  if not entry or not entry.hash[field] then return 0 end
  entry.hash[field] = nil
  return 1
end

function commands.EXISTS(state, key) return live(state, key) and 1 or 0 end

function commands.GET(state, key)
  local entry = live(state, key)
  return entry and entry.text or false
end

function commands.SET(state, key, text, option, ms)
  assert(option == "PX", "SET without PX")
  state.keys[key] = {text = text, ends = state.now + math.tointeger(ms) * 1000}
  return {ok = "OK"}
end

function commands.PEXPIRE(state, key, ms)
  local entry = live(state, key)
  if not entry then return 0 end
  entry.ends = state.now + math.tointeger(ms) * 1000
  return 1
end

function commands.PTTL(state, key)
  local entry = live(state, key)
  if not entry then return -2 end
  return entry.ends and (entry.ends - state.now) // 1000 or -1
end

function commands.DEL(state, ...)
  local count = 0
  for _, key in ipairs {...} do
    if live(state, key) then count = count + 1 end
    state.keys[key] = nil
  end
  return count
end

-- state.published: a list to note it in.
function commands.PUBLISH(state, channel, text)
  if state.published then table.insert(state.published, {channel, text}) end
  return 0
end

-- Sorted sets: only as the scripts use them.

local function bound(text) -- of a score: the number, and whether it is outside
  text = tostring(text)
  local number = text:gsub("^%(", "")
  return number == "-inf" and -math.huge or number == "+inf" and math.huge or assert(tonumber(number)), number ~= text
end

-- The members, lowest first, whose score is from `low` to `high`.
local function members(state, key, low, high)
  local entry, out = live(state, key), {}
  local from, above = bound(low or "-inf")
  local to, below = bound(high or "+inf")
  for member, score in pairs(entry and entry.scores or {}) do
    if score >= from and score <= to and not (above and score == from) and not (below and score == to) then
      out[#out + 1] = member
    end
  end
  table.sort(out, function(a, b)
    local left, right = entry.scores[a], entry.scores[b]
    if left == right then return a < b end
    return left < right
  end)
  return out, entry
end

function commands.ZADD(state, key, score, member)
  local entry = live(state, key) or {scores = {}}
  state.keys[key] = entry
  local new = entry.scores[member] == nil
  entry.scores[member] = assert(tonumber(score))
  return new and 1 or 0
end

function commands.ZREM(state, key, member)
  local entry = live(state, key)
  if not entry or not entry.scores[member] then return 0 end
  entry.scores[member] = nil
  if not next(entry.scores) then state.keys[key] = nil end
  return 1
end

function commands.ZSCORE(state, key, member)
  local entry = live(state, key)
  local score = entry and entry.scores[member]
  return score and string.format("%.0f", score) or false
end

function commands.ZRANK(state, key, member)
  for rank, other in ipairs((members(state, key))) do
    if other == member then return rank - 1 end
  end
  return false
end

function commands.ZCOUNT(state, key, low, high) return #members(state, key, low, high) end

function commands.ZRANGE(state, key, from, to, option)
  local all, entry = members(state, key)
  if from < 0 then from = from + #all end
  if to < 0 then to = to + #all end
  local out = {}
  for rank = math.max(from, 0), math.min(to, #all - 1) do
    out[#out + 1] = all[rank + 1]
    if option == "WITHSCORES" then out[#out + 1] = string.format("%.0f", entry.scores[all[rank + 1]]) end
  end
  return out
end

function commands.ZRANGEBYSCORE(state, key, low, high, limit, offset, count)
  assert(limit == "LIMIT" and offset == 0)
  local all = members(state, key, low, high)
  return {table.unpack(all, 1, math.min(count, #all))}
end

function commands.ZREMRANGEBYRANK(state, key, from, to)
  local out = commands.ZRANGE(state, key, from, to)
  for _, member in ipairs(out) do commands.ZREM(state, key, member) end
  return #out
end

-- An own copy of a state, to explore from.
function M.copy(state)
  local keys = {}
  for key, entry in pairs(state.keys) do
    local hash, scores
    if entry.hash then
      hash = {}
      for field, value in pairs(entry.hash) do hash[field] = value end
    end
    if entry.scores then
      scores = {}
      for member, score in pairs(entry.scores) do scores[member] = score end
    end
    keys[key] = {hash = hash, scores = scores, text = entry.text, ends = entry.ends}
  end
  return {now = state.now, keys = keys}
end

M.new_state, M.live, M.members = new_state, live, members

-- Compiles a script: a function (state, keys, args) -> reply.
function M.compile(text, name)
  local state
  local env = {KEYS = nil, ARGV = nil, math = math, string = string, tonumber = tonumber, tostring = tostring,
    unpack = table.unpack, table = table, ipairs = ipairs}
  env.redis = {
    call = function(command, ...)
      return assert(commands[command], "the fake server has no " .. command)(state, ...)
    end,
    pcall = function(...) return env.redis.call(...) end,
    error_reply = function(message) return {err = message} end,
  }
  local chunk = assert(load(text, "=" .. name, "t", env))
  return function(on, keys, args)
    state, env.KEYS, env.ARGV = on, keys, args
    return chunk()
  end
end

return M
