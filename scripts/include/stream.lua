-- stream: the pending list of a stream queue's one group is its list of leases.  Who has an entry is its consumer, its
-- delivery count is the epoch, and its idle time is how much of the lease is over.
local GROUP = "workers"
local NOBODY = "nobody" -- has the entries that were given back
local LONGEST = 86400000 -- ms: no lease is longer

local function stream_text(number) return string.format("%.0f", number) end

-- The whole number that `text` is, or nil.
local function stream_whole(text, min, max)
  local number = tonumber(text)
  return number and number % 1 == 0 and number >= min and number <= max and number or nil
end

-- The answer that refuses a caller who has not the lease of this epoch; or nil, and the lease: id, consumer, idle, epoch.
local function stream_lease(stream, consumer, id, epoch)
  local found = redis.pcall("XPENDING", stream, GROUP, id, id, "1")
  if found.err then return string.find(found.err, "NOGROUP", 1, true) and {STREAM_GONE} or found end
  local lease = found[1]
  if not lease then return {STREAM_GONE} end
  if lease[2] ~= consumer or lease[4] ~= epoch then return {STREAM_LOST} end
  return nil, lease
end
