-- SPDX-License-Identifier: MIT
-- A real cluster for the specs, the twin of tests/support/cluster_fixture.h: nodes are numbered from 1, first the
-- primaries, then their replicas in turn.  Each node is asked through a client of its own; redirections are errors there.
--
--   local cluster = require("tests.lua.cluster").start { primaries = 3, replicas = 1 }
--   redmoon.connect(cluster.url)
--   cluster:move_slot(slot, 2)
--   cluster:close()
--
-- The servers are embedded ones, so they end with this process at the latest.

local redmoon = require "redmoon"

local M = {}
M.__index = M

local SLOTS <const>, PATIENCE <const>, BATCH <const> = 16384, 60, 10
local tries = 0

local function ask(node, ...) return assert(node.client:call(...)) end

-- Waits until `holds` is true; a node sleeps between two looks, not instead of one.
function M:await(what, holds)
  local by = os.time() + PATIENCE
  while not holds() do
    local node = self:running()[1]
    if os.time() > by then error(("not in time: %s\n%s"):format(what, ask(node, "CLUSTER", "NODES"))) end
    ask(node, "DEBUG", "SLEEP", "0.01")
  end
end

-- The numbers and nodes that are neither killed nor stopped.
function M:running()
  local found = {}
  for number = 1, #self.nodes do
    if self.nodes[number].state == "running" then found[#found + 1] = self.nodes[number] end
  end
  return found
end

-- Views.

-- The cluster as that node sees it: {known =, owner = {[slot] = number}, primary = {[number] = number},
-- bad = {[number] = true}}, the last for nodes that it takes for dead or has no link to.
function M:view(node)
  local view = { known = 0, owner = {}, primary = {}, bad = {} }
  for line in ask(node, "CLUSTER", "NODES"):gmatch("[^\n]+") do
    local id, flags, primary, link, slots =
        line:match("^(%x+) %S+ (%S+) (%S+) %S+ %S+ %S+ (%S+) ?(.*)$")
    local number = self.numbers[id]
    view.known = view.known + 1
    if number then
      view.primary[number] = flags:find("master", 1, true) and number or self.numbers[primary]
      view.bad[number] = flags:find("fail", 1, true) or link ~= "connected" or nil
      for word in slots:gmatch("%S+") do
        local first, last = word:match("^(%d+)%-?(%d*)$") -- what stands in brackets is under way
        for slot = tonumber(first) or 0, first and tonumber(last) or tonumber(first) or -1 do
          view.owner[slot] = number
        end
      end
    end
  end
  return view
end

local function is_same(a, b, last)
  for i = 0, last do
    if a[i] ~= b[i] then return false end
  end
  return true
end

-- What all running nodes say; nil while they do not agree.
function M:agreed()
  local first
  for _, node in ipairs(self:running()) do
    local view = self:view(node)
    first = first or view
    if not is_same(view.owner, first.owner, SLOTS - 1) or not is_same(view.primary, first.primary, #self.nodes) then
      return nil
    end
    for number in pairs(view.bad) do first.bad[number] = true end
  end
  return first
end

function M:common_view()
  local view
  self:await("the nodes agree", function()
    view = self:agreed()
    return view
  end)
  return view
end

function M:is_ok()
  local view = self:agreed()
  if not view then return false end
  for slot = 0, SLOTS - 1 do
    local owner = self.nodes[view.owner[slot]]
    if not owner or owner.state ~= "running" then return false end
  end
  for _, node in ipairs(self:running()) do
    local primary = view.primary[node.number]
    if not primary or view.bad[node.number] then return false end
    if not ask(node, "CLUSTER", "INFO"):find("cluster_state:ok", 1, true) then return false end
    if primary ~= node.number and (self.nodes[primary].state ~= "running"
        or not ask(node, "INFO", "replication"):find("master_link_status:up", 1, true)) then
      return false
    end
  end
  return true
end

function M:await_ok() self:await("all is well", function() return self:is_ok() end) end

function M:primary_of(slot) return self:common_view().owner[slot] end

-- A running replica of that primary, or nil.
function M:replica_of(primary)
  local view = self:common_view()
  for _, node in ipairs(self:running()) do
    if node.number ~= primary and view.primary[node.number] == primary then return node.number end
  end
end

function M:slot_of(key) return ask(self:running()[1], "CLUSTER", "KEYSLOT", key) end

-- Starting.

local function launch(self, options)
  local why
  for _ = 1, 50 do
    tries = tries + 1
    local port = 20000 + (tonumber(tostring(self):match("0x(%x+)"), 16) // 16 * 7 + os.time() * 13 + tries * 262) % 30000
    local config = { "--port", port, "--cluster-port", port + 1, "--bind", "127.0.0.1", "--cluster-enabled", "yes",
      "--cluster-node-timeout", math.tointeger((options.node_timeout or 15) * 1000), "--cluster-migration-barrier", 100,
      "--repl-diskless-sync-delay", 0, "--enable-debug-command", "yes" }
    local server, message = redmoon.embedded { server = os.getenv "REDMOON_TEST_SERVER",
      config = table.move(options.config or {}, 1, #(options.config or {}), #config + 1, config) }
    if server then
      local node = { server = server, port = port, state = "running", number = #self.nodes + 1,
        client = assert(redmoon.connect(server.url, { pool_size = 2, read_timeout = 20, timeout = 20 })) }
      node.id = ask(node, "CLUSTER", "MYID")
      self.nodes[node.number], self.numbers[node.id] = node, node.number
      ask(node, "CLUSTER", "SET-CONFIG-EPOCH", node.number)
      return node
    end
    why = message
  end
  error(why)
end

local function meet(self, node)
  for _, other in ipairs(self:running()) do
    if other ~= node then ask(node, "CLUSTER", "MEET", "127.0.0.1", other.port, other.port + 1) end
  end
end

local function all_known(self)
  for _, node in ipairs(self:running()) do
    local view = self:view(node)
    for _, other in ipairs(self:running()) do
      if not view.primary[other.number] then return false end
    end
  end
  return true
end

-- primaries = 3, replicas = 1 (of each), node_timeout = 15 (seconds), config = {...} (more arguments).
function M.start(options)
  options = options or {}
  local primaries, replicas = options.primaries or 3, options.replicas or 1
  local self = setmetatable({ nodes = {}, numbers = {} }, M)
  for number = 1, primaries * (1 + replicas) do
    local node = launch(self, options)
    if number <= primaries then
      ask(node, "CLUSTER", "ADDSLOTSRANGE", (number - 1) * SLOTS // primaries, number * SLOTS // primaries - 1)
    end
    meet(self, node)
  end
  self:await("the nodes know each other", function() return all_known(self) end)
  local seeds = {}
  for number, node in ipairs(self.nodes) do
    if number > primaries then ask(node, "CLUSTER", "REPLICATE", self.nodes[(number - 1) % primaries + 1].id) end
    seeds[number] = "127.0.0.1:" .. node.port
  end
  self:await_ok()
  self.url = "redis+cluster://" .. table.concat(seeds, ",")
  return self
end

function M:close()
  for _, node in ipairs(self.nodes) do
    node.client:close()
    node.server:close()
    node.state = "killed"
  end
end

-- Slots.

function M:begin_move(slot, to)
  local from = self:primary_of(slot)
  ask(self.nodes[to], "CLUSTER", "SETSLOT", slot, "IMPORTING", self.nodes[from].id)
  ask(self.nodes[from], "CLUSTER", "SETSLOT", slot, "MIGRATING", self.nodes[to].id)
  self.moves = self.moves or {}
  self.moves[slot] = { from = self.nodes[from], to = self.nodes[to] }
end

local function migrate(move, keys)
  return ask(move.from, "MIGRATE", "127.0.0.1", move.to.port, "", 0, 10000, "KEYS", table.unpack(keys)) ~= "NOKEY"
end

-- Some keys of a slot whose move was begun; how many there were.
function M:move_keys(slot, max)
  local move, moved = self.moves[slot], 0
  while moved < max do
    local keys = ask(move.from, "CLUSTER", "GETKEYSINSLOT", slot, math.min(BATCH, max - moved))
    if #keys == 0 then break end
    migrate(move, keys)
    moved = moved + #keys
  end
  return moved
end

-- One key; false: it is not at the source.
function M:move_key(slot, key) return migrate(self.moves[slot], { key }) end

function M:end_move(slot)
  local move = self.moves[slot]
  self:move_keys(slot, math.maxinteger)
  ask(move.to, "CLUSTER", "SETSLOT", slot, "NODE", move.to.id)
  ask(move.from, "CLUSTER", "SETSLOT", slot, "NODE", move.to.id)
  local view = self:view(move.to)
  for _, node in ipairs(self:running()) do
    if node ~= move.to and node ~= move.from and view.primary[node.number] == node.number then
      ask(node, "CLUSTER", "SETSLOT", slot, "NODE", move.to.id)
    end
  end
  self.moves[slot] = nil
end

function M:move_slot(slot, to)
  if self:primary_of(slot) == to then return end
  self:begin_move(slot, to)
  self:end_move(slot)
end

-- Nodes.

local function signal(node, name) assert(os.execute(("kill -%s %d"):format(name, node.server.pid))) end

-- kill -9, for good.
function M:kill(number)
  local node = self.nodes[number]
  signal(node, "KILL")
  node.state = "killed"
  node.client:close()
  node.server:close()
end

-- SIGSTOP and SIGCONT.
function M:pause(number)
  signal(self.nodes[number], "STOP")
  self.nodes[number].state = "paused"
end

function M:resume(number)
  signal(self.nodes[number], "CONT")
  self.nodes[number].state = "running"
end

-- Waits until another one than `from` serves the slot; its number.
function M:await_failover(slot, from)
  local now
  self:await("a fail-over", function()
    local view = self:agreed()
    now = view and view.owner[slot]
    if not now or now == from or self.nodes[now].state ~= "running" then return false end
    for _, node in ipairs(self:running()) do
      if not ask(node, "CLUSTER", "INFO"):find("cluster_state:ok", 1, true) then return false end
    end
    return true
  end)
  return now
end

return M
