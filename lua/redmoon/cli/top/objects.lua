-- SPDX-License-Identifier: MIT
-- What patterns hold on the server, by the names of their keys: a walk through the keyspace, so much at a time.

local M = {}

local walk = {}
walk.__index = walk

-- <prefix>:{<name>}:<part>, or <prefix>:~<name>:<part> where the name has a hash tag of its own.
local function parts_of(key, prefix)
  if key:sub(1, #prefix + 1) ~= prefix .. ":" then return nil end
  local rest = key:sub(#prefix + 2)
  local name, part = rest:match("^{([^}]*)}:([^:]+)$")
  if not name then name, part = rest:match("^~(.*):([^:]+)$") end
  return name, part
end

local algorithms = { log = "sliding_log", gcra = "gcra", fixed = "fixed_window", sliding = "sliding_window",
  buckets = "buckets" }
local plain = { lock = "lock", semaphore = "semaphore", ["rwlock.readers"] = "read-write lock",
  ["rwlock.writer"] = "read-write lock" }
local endings = { jti = "revoked token", record = "record", count = "counter", minute = "counter", hour = "counter",
  day = "counter", month = "counter" }

-- What a key is of: kind, and which of that kind ("" where each key is one).  nil for what says nothing.
local function classify(part)
  if part:find("+req.", 1, true) then return nil end
  if plain[part] then return plain[part], "" end
  local limiter, algorithm = part:match("^(.-)%.(%l+)[%d.]*$")
  if limiter and algorithms[algorithm] then return "rate limit", limiter .. " (" .. algorithms[algorithm] .. ")" end
  local set = part:match("^(.*)%.session%.[^.]+$")
  if set then return "session", set end
  local owner, ending = part:match("^(.*)%.(%l+)$")
  if owner and endings[ending] then return endings[ending], owner end
  return nil
end

local function escaped(text) return (text:gsub("[%*%?%[%]\\]", "\\%0")) end

-- scanned: clients whose keys are walked through, one after another: of a cluster one for each primary.
function M.new(client, prefix, scanned)
  return setmetatable({ client = client, scanned = scanned or { client }, at = 1, prefix = prefix,
    pattern = escaped(prefix) .. ":*", cursor = "0",
    counts = {}, queues = {}, result = nil, result_queues = nil }, walk)
end

function walk:note(key)
  local name, part = parts_of(key, self.prefix)
  if not name then return end
  if part == "queue.state" then
    self.queues[#self.queues + 1] = { name = name, keys = key:sub(1, -#"state" - 1) }
    return
  end
  local kind, which = classify(part)
  if not kind then return end
  local id = kind .. "\0" .. which
  local entry = self.counts[id] or { kind = kind, which = which, keys = 0 }
  entry.keys = entry.keys + 1
  self.counts[id] = entry
end

local function sorted(counts)
  local list = {}
  for _, entry in pairs(counts) do list[#list + 1] = entry end
  table.sort(list, function(a, b)
    if a.kind ~= b.kind then return a.kind < b.kind end
    return a.which < b.which
  end)
  return list
end

-- Goes on by at most `pages` of a thousand keys.  self.result is the list {kind=, which=, keys=} of the last whole walk,
-- self.counts what the present one has seen.  nil and why when SCAN fails.
function walk:go(pages)
  for _ = 1, pages do
    local reply, message = self.scanned[self.at]:call("SCAN", self.cursor, "MATCH", self.pattern, "COUNT", 1000)
    if not reply then return nil, message end
    self.cursor = reply[1]
    for _, key in ipairs(reply[2]) do self:note(key) end
    if self.cursor == "0" then self.at = self.at % #self.scanned + 1 end
    if self.cursor == "0" and self.at == 1 then
      self.result, self.counts = sorted(self.counts), {}
      self.result_queues, self.queues = self.queues, {}
      break
    end
  end
  return true
end

-- The list, and whether it is whole.
function walk:list() return self.result or sorted(self.counts), self.result ~= nil end

local states = { "ready", "delayed", "leased", "dead" }

-- Lease queues and how many jobs are where: {name=, ready=, delayed=, leased=, dead=, paused=}; at most `most`.
function walk:queue_list(most)
  local found = self.result_queues or self.queues
  local list = {}
  if #found == 0 then return list end
  local replies = self.client:pipeline(function(p)
    for i = 1, math.min(#found, most) do
      for _, state in ipairs(states) do p:zcard(found[i].keys .. state) end
      p:zlexcount(found[i].keys .. "groups", "[w", "(x") -- ready, too: scripts/include/queue_group.lua
      p:hget(found[i].keys .. "state", "paused")
      p:hget(found[i].keys .. "state", "bundled") -- ready, too: scripts/include/queue_bundle.lua
    end
  end)
  if not replies then return list end
  for i = 1, math.min(#found, most) do
    local at = (i - 1) * (#states + 3)
    local queue = { name = found[i].name, paused = replies[at + #states + 2] == "1" }
    for j, state in ipairs(states) do queue[state] = math.tointeger(replies[at + j]) or 0 end
    for _, more in ipairs { replies[at + #states + 1], replies[at + #states + 3] } do
      queue.ready = queue.ready + (math.tointeger(more) or 0)
    end
    list[i] = queue
  end
  table.sort(list, function(a, b) return a.name < b.name end)
  return list
end

return M
