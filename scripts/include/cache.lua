-- cache: an entry of a cache, as core/src/patterns/cache_entry.c writes and checks it.  Of its 40 bytes in front of the
-- value 4 are magic and version, and from the 17th on 6 each are its soft and its hard TTL in ms.
-- The age is what has passed of the hard TTL, so no clock counts but the one by which the server ends keys.
local CACHE_MAGIC, CACHE_HEADER = "\201RC\1", 40

-- Text of the entry, ms left, whether it is fresh; or nil and whether something else is there that has to go.
local function cache_look(entry)
  local text = redis.pcall("GET", entry)
  if not text then return nil, false end
  if type(text) ~= "string" or #text < CACHE_HEADER or text:sub(1, 4) ~= CACHE_MAGIC then return nil, true end
  local soft, hard = struct.unpack(">I6I6", text, 17)
  local left = redis.call("PTTL", entry)
  if left < 0 then return nil, true end
  return text, left, math.max(hard - left, 0) < soft -- a clock set back makes more of what is left than there was
end

-- Whether `seen`, the begin of an entry or all of what is shorter, is that of `text`.
local function cache_is(text, seen)
  return seen ~= "" and text:sub(1, CACHE_HEADER) == seen
end
