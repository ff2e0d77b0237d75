-- SPDX-License-Identifier: MIT
-- From raw rows to medians of ratios, Markdown tables and files.
local M = {}

function M.median(values)
  if #values == 0 then return nil end
  local sorted = table.move(values, 1, #values, 1, {})
  table.sort(sorted)
  local middle = #sorted // 2
  return #sorted % 2 == 1 and sorted[middle + 1] or (sorted[middle] + sorted[middle + 1]) / 2
end

-- In the order of the tables.
local works = {"get", "set", "get64k", "pipe100", "pipe1000", "lrange", "hgetall", "mget", "lock",
  "rate", "counter", "cache", "job", "job50", "jobs"}
local titles = {
  get = "GET 16 B, one at a time", set = "SET 16 B, one at a time", get64k = "GET 64 KiB",
  pipe100 = "pipeline of 100 GET", pipe1000 = "pipeline of 1,000 GET",
  lrange = "LRANGE of 10,000 x 32 B",
  hgetall = "HGETALL of 1,000", mget = "MGET of 1,000",
  lock = "lock: acquire and release", rate = "rate limit, GCRA", counter = "counter in a window",
  cache = "cache hit with JSON", job = "job: pushed, taken, done", job50 = "the same, 50 at a time",
  jobs = "500 jobs pushed together",
}

local function cpu(row)
  return (row.cpu_user + row.cpu_sys) / row.ops
end

-- The rows of one peer at one work in one mode, beside the base's rows of the same rounds.
local function condense(rows, base_rows)
  local speeds, cpus, rates, peaks = {}, {}, {}, {}
  for i, row in ipairs(rows) do
    local base = base_rows[row.round]
    rates[i], peaks[i] = row.ops / row.seconds, row.peak_kib
    speeds[i], cpus[i] = rates[i] * base.seconds / base.ops, cpu(row) / cpu(base)
  end
  return {
    speed = M.median(speeds), low = math.min(table.unpack(speeds)),
    high = math.max(table.unpack(speeds)), cpu = M.median(cpus),
    per_second = M.median(rates), peak_kib = M.median(peaks),
  }
end

-- rows: {mode=, work=, round=, peer=, ops=, seconds=, cpu_user=, cpu_sys=, peak_kib=}.
-- -> summary[mode][work][peer]: speed, low, high and cpu are ratios to the base in the same round
-- (median, lowest, highest; median), per_second and peak_kib are medians.
function M.summarise(rows, base)
  local groups, base_rows = {}, {}
  for _, row in ipairs(rows) do
    local key = row.mode .. " " .. row.work
    groups[key .. " " .. row.peer] = groups[key .. " " .. row.peer] or {}
    table.insert(groups[key .. " " .. row.peer], row)
    base_rows[key] = base_rows[key] or {}
    if row.peer == base then base_rows[key][row.round] = row end
  end
  local summary = {}
  for _, group in pairs(groups) do
    local mode, work, peer = group[1].mode, group[1].work, group[1].peer
    summary[mode] = summary[mode] or {}
    summary[mode][work] = summary[mode][work] or {}
    summary[mode][work][peer] = condense(group, base_rows[mode .. " " .. work])
  end
  return summary
end

local function thousands(number)
  local digits = ("%d"):format(math.floor(number + 0.5))
  local grouped = digits:reverse():gsub("(%d%d%d)", "%1,"):reverse():gsub("^,", "")
  return grouped
end

-- A Markdown table: a row for each work there is, a column for each peer.
local function print_table(heading, peers, by_work, cell_of)
  local head, rule = {"work"}, {"---"}
  for _, peer in ipairs(peers) do
    head[#head + 1], rule[#rule + 1] = peer.title, "---:"
  end
  print("\n### " .. heading .. "\n")
  print("| " .. table.concat(head, " | ") .. " |\n| " .. table.concat(rule, " | ") .. " |")
  for _, work in ipairs(works) do
    if by_work[work] then
      local cells = {titles[work]}
      for _, peer in ipairs(peers) do
        local value = by_work[work][peer.name]
        cells[#cells + 1] = value and cell_of(value, peer) or "-"
      end
      print("| " .. table.concat(cells, " | ") .. " |")
    end
  end
end

local places = {
  same = "client and server on one core", split = "a core each", free = "not pinned",
}
function M.print_speeds(mode, peers, by_work)
  local heading = ("Speed and, in brackets, client CPU per command, as ratios to the hiredis loop"
    .. " in the same round; mode %s: %s"):format(mode, places[mode])
  print_table(heading, peers, by_work, function(value, peer)
    if peer.base then return ("1 = %s /s"):format(thousands(value.per_second)) end
    return ("%.2f (%.2f)"):format(value.speed, value.cpu)
  end)
end

function M.print_memory(peers, by_work)
  print_table("Peak memory of the client process, MiB", peers, by_work, function(value, peer)
    return peer.no_memory and "-" or ("%.1f"):format(value.peak_kib / 1024)
  end)
end

function M.print_instructions(peers, counts)
  print_table("Instructions per command in user space (callgrind)", peers, counts, thousands)
end

local columns = {
  "mode", "work", "round", "peer", "ops", "seconds", "cpu_user", "cpu_sys", "peak_kib",
}
function M.write_csv(path, rows)
  local file <close> = assert(io.open(path, "w"))
  file:write(table.concat(columns, ","), "\n")
  for _, row in ipairs(rows) do
    local cells = {}
    for i, column in ipairs(columns) do cells[i] = tostring(row[column]) end
    file:write(table.concat(cells, ","), "\n")
  end
end

-- Tables with string keys, numbers, strings; keys are sorted, so that two runs can be compared.
local function json(value, indent)
  if type(value) == "number" then
    return math.type(value) == "integer" and tostring(value) or ("%.4f"):format(value)
  elseif type(value) ~= "table" then
    return ('"%s"'):format((tostring(value):gsub('[%c"\\]', function(byte)
      return ("\\u%04x"):format(byte:byte())
    end)))
  end
  local keys, parts, inner = {}, {}, indent .. "  "
  for key in pairs(value) do keys[#keys + 1] = tostring(key) end
  table.sort(keys)
  for i, key in ipairs(keys) do
    parts[i] = ('%s"%s": %s'):format(inner, key, json(value[key], inner))
  end
  return #parts == 0 and "{}" or "{\n" .. table.concat(parts, ",\n") .. "\n" .. indent .. "}"
end

function M.write_json(path, value)
  local file <close> = assert(io.open(path, "w"))
  file:write(json(value, ""), "\n")
end

return M
