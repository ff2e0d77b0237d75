-- SPDX-License-Identifier: MIT
-- doctor: what the sentinels of a redis+sentinel:// URL say: each of them is asked.

local connection = require "redmoon.cli.connection"
local format = require "redmoon.cli.format"
local redmoon = require "redmoon"

local M = {}

local FEW = 3 -- sentinels: of two none may be lost
local SLOW = 60 -- seconds until a silent primary is held to be down

-- A sentinel's map, which is a flat list in RESP2.
local function fields(answer)
  if answer[1] == nil then return answer end
  local map = {}
  for i = 1, #answer - 1, 2 do map[answer[i]] = answer[i + 1] end
  return map
end

local function connect(args, subject, address)
  local tls = connection.url_option(args, "sentinel_tls") or (subject.url:find("^rediss") and "true" or "false")
  local is_tls = tls == "true" or tls == "1"
  local query = {}
  for part in (args.url or os.getenv("REDIS_URL") or ""):gmatch("[?&](tls_[%w_]+=[^&]*)") do query[#query + 1] = part end
  local url = (is_tls and "rediss://" or "redis://") .. address
  if is_tls and #query > 0 then url = url .. "?" .. table.concat(query, "&") end
  return redmoon.connect(url, {
    username = connection.url_option(args, "sentinel_username"),
    password = connection.url_option(args, "sentinel_password"),
    client_name = "redmoon-doctor", pool_size = 1, max_retries = 0, connect_timeout = 1, timeout = 2,
  })
end

-- What one sentinel says: {address=, primary=, quorum=, ...}, or {address=, trouble=}.
local function consult(args, subject, address, name)
  local found = { address = address }
  local client <close>, message = connect(args, subject, address)
  if not client then
    found.trouble = message
    return found
  end
  local master, why = client:call("SENTINEL", "MASTER", name)
  if not master then
    found.trouble = why
    return found
  end
  local map = fields(master)
  found.primary = ("%s:%s"):format(map.ip, map.port)
  found.flags, found.quorum = map.flags or "", math.tointeger(tonumber(map.quorum))
  found.others = math.tointeger(tonumber(map["num-other-sentinels"]))
  found.down_after = (tonumber(map["down-after-milliseconds"]) or 0) / 1000
  local usable, refused = client:call("SENTINEL", "CKQUORUM", name)
  found.unusable = not usable and refused or nil
  found.replicas = client:call("SENTINEL", "REPLICAS", name)
  return found
end

local function report_replicas(report, told)
  local names, down = {}, {}
  for _, each in ipairs(told.replicas or {}) do
    local map = fields(each)
    local is_down = (map.flags or ""):find("down", 1, true) or map["master-link-status"] ~= "ok"
    local list = is_down and down or names
    list[#list + 1] = ("%s:%s"):format(map.ip, map.port)
  end
  local values = { replicas = #names, down = #down }
  if #names == 0 then
    local text = #down > 0 and "down: " .. table.concat(down, ", ") or "none"
    return report:failure("replicas", text,
      "nobody can take over when the primary is lost: bring a replica up", values)
  end
  local text = ("%s: %s"):format(format.plural(#names, "replica"), table.concat(names, ", "))
  if #down > 0 then
    text = ("%s; down: %s"):format(text, table.concat(down, ", "))
    return report:warning("replicas", text, "look at their logs", values)
  end
  report:ok("replicas", text, values)
end

local function report_fail_over(report, subject, told)
  local needed = tonumber((subject:setting("min-replicas-to-write"))) or 0
  local text = ("a silent primary is held to be down after %s"):format(format.duration(told.down_after))
  local values = { down_after = told.down_after, min_replicas_to_write = needed }
  if told.down_after > SLOW then
    return report:warning("failover", text, "until then calls fail: lower down-after-milliseconds", values)
  end
  if needed == 0 and not subject.min_replicas then
    return report:warning("failover",
      text .. "; a primary that is cut off goes on taking writes, which are lost then",
      "ask for min_replicas where that matters (locks, queues, blocklists), or set min-replicas-to-write", values)
  end
  report:ok("failover", text, values)
end

-- Those that answer, and why others do not.
local function consult_all(args, subject, hosts, name)
  local good, bad = {}, {}
  for address in hosts:gmatch("[^,]+") do
    local told = consult(args, subject, address, name)
    if told.trouble then bad[#bad + 1] = ("%s: %s"):format(address, told.trouble) else good[#good + 1] = told end
  end
  return good, bad
end

function M.sentinels(report, subject, args)
  local hosts, name = subject.url:match("^rediss?%+sentinel://([^/]+)/([^/]+)")
  if not hosts then return end
  local good, bad = consult_all(args, subject, hosts, name)
  if #good == 0 then return report:skipped("sentinels", table.concat(bad, "; ")) end
  local told = good[1]
  local known = (told.others or 0) + 1
  local values = { primary = told.primary, quorum = told.quorum, known = known, answered = #good, silent = #bad }
  local text = ("%s of the URL answer and know %d; the primary '%s' is %s, quorum %s"):format(
    format.plural(#good, "sentinel"), known, name, told.primary, told.quorum or "?")
  local advice
  for _, each in ipairs(good) do
    if each.primary ~= told.primary then
      advice = ("%s names %s: a fail-over goes on, or it is cut off"):format(each.address, each.primary)
    elseif each.unusable then
      advice = ("%s: %s"):format(each.address, each.unusable)
    end
  end
  if advice then report:failure("sentinels", text, advice, values)
  elseif #bad > 0 then report:warning("sentinels", text, table.concat(bad, "; "), values)
  elseif known < FEW then
    report:warning("sentinels", text,
      "with fewer than three none may be lost: run one more, on a machine of its own", values)
  else report:ok("sentinels", text, values) end
  report_replicas(report, told)
  report_fail_over(report, subject, told)
end

return M
