-- SPDX-License-Identifier: MIT
-- Runs the peers' programs: interleaved rounds, instructions under callgrind, start-up time.
local output = require("lib.server").output
local median = require("lib.report").median
local M = {}

local function note(text, ...)
  io.stderr:write(text:format(...), "\n")
end

-- One measurement -> row, or nil and what the program said.
local function measure(prefix, peer, address, work, budget)
  local command = ("%s %s %s %s %s 2>&1"):format(prefix, peer.command, address, work, budget)
  local text, row = output(command), {}
  for key, value in text:gmatch('"([%w_]+)":"?([^,"}]*)') do
    row[key] = tonumber(value) or value
  end
  if row.work ~= work or not row.ops or not row.seconds then return nil, text end
  row.peer = peer.name
  return row
end

-- Of `peers` those that run here, with their versions; and the others, each with the reason.
function M.usable(peers, address)
  local usable, others = {}, {}
  for _, peer in ipairs(peers) do
    local row, why = measure("", peer, address, peer.probe or "get", "16")
    if row then
      peer.version_text = output(peer.version .. " 2>/dev/null"):match("[^\n]*")
      usable[#usable + 1] = peer
    else
      others[#others + 1] = {title = peer.title, name = peer.name, why = why:match("[^\n]*")}
    end
  end
  return usable, others
end

-- Pins the server with all its threads, and returns the prefix that pins a client.
local function pin(mode, server)
  local cores = {}
  for from, to in output("taskset -cp $$"):match(": (.*)"):gmatch("(%d+)-?(%d*)") do
    for core = tonumber(from), tonumber(to) or tonumber(from) do cores[#cores + 1] = core end
  end
  if mode == "split" and #cores < 2 then
    error("mode split needs two cores; use --modes same", 0)
  end
  local last = cores[#cores]
  local list = mode == "free" and table.concat(cores, ",") or tostring(last)
  output(("taskset -acp %s %d"):format(list, server.pid))
  if mode == "free" then return "" end
  return ("taskset -c %d"):format(mode == "split" and cores[#cores - 1] or last)
end

local patterns = {lock = true, rate = true, counter = true, cache = true, job = true, job50 = true,
  jobs = true}

local function has(peer, work)
  if not patterns[work] then return not peer.probe end
  local own = peer.patterns or ""
  return own == "all" or (" " .. own .. " "):find(" " .. work .. " ", 1, true) ~= nil
end

-- for each mode, each round, each work: every peer once; who comes first rotates.
function M.rounds(options, server, peers)
  local rows = {}
  for _, mode in ipairs(options.modes) do
    local prefix = pin(mode, server)
    for round = 1, options.rounds do
      note("mode %s, round %d of %d", mode, round, options.rounds)
      for _, work in ipairs(mode == "split" and options.split_works or options.works) do
        for i = 1, #peers do
          local peer = peers[(i + round) % #peers + 1]
          if has(peer, work) then
            local row, why = measure(prefix, peer, server.address, work, options.seconds .. "s")
            if not row then error(("%s, %s: %s"):format(peer.name, work, why), 0) end
            row.mode, row.round = mode, round
            rows[#rows + 1] = row
          end
        end
      end
    end
  end
  return rows
end

local valgrind = "valgrind --tool=callgrind --callgrind-out-file=/dev/null "
local few_and_many = {
  get = {64, 1088}, set = {64, 1088}, get64k = {16, 144},
  lock = {1000, 5000}, rate = {1000, 5000}, counter = {1000, 5000}, -- long enough for the collector of Lua
}

-- Two runs of different length: what start-up costs is in both, and cancels.
local function count(peer, address, work)
  -- A Lua peer is started by env; the tool has to stand behind that.
  local command, by_env = peer.command:gsub("^(env .- )(lua5%.4)", "%1" .. valgrind .. "%2")
  if by_env == 0 then command = valgrind .. command end
  local instructions, ops = {}, {}
  for i, budget in ipairs(few_and_many[work] or {4, 14}) do
    local text = output(("%s %s %s %d 2>&1"):format(command, address, work, budget))
    instructions[i] = tonumber(text:match("Collected : (%d+)"))
    ops[i] = tonumber(text:match('"ops":(%d+)'))
    if not instructions[i] or not ops[i] then
      error(("callgrind, %s, %s: %s"):format(peer.name, work, text), 0)
    end
  end
  return (instructions[2] - instructions[1]) / (ops[2] - ops[1])
end

-- -> counts[work][peer name], instructions of one command
function M.instructions(works, server, peers)
  local counts = {}
  for _, work in ipairs(works) do
    counts[work] = {}
    for _, peer in ipairs(peers) do
      if has(peer, work) then
        note("instructions: %s, %s", work, peer.name)
        counts[work][peer.name] = count(peer, server.address, work)
      end
    end
  end
  return counts
end

-- 40 processes one after the other -> milliseconds each.
local loop = [[s=$(date +%%s%%N); i=0
while [ $i -lt 40 ]; do %s || echo failed; i=$((i + 1)); done
e=$(date +%%s%%N); echo $(((e - s) / 40000))]]
local function process_ms(command)
  local text = output(loop:format(command))
  return (tonumber(text) or error("start-up: " .. text, 0)) / 1000
end

-- Milliseconds of a process that loads the library, connects and reads a key, beyond bare lua5.4.
function M.start_up(server, peer)
  local command, more = peer.start:gsub("ADDRESS", server.address), {}
  for i = 1, 5 do
    local bare = process_ms("lua5.4 -e ''")
    more[i] = process_ms(command) - bare
  end
  return median(more)
end

return M
