-- SPDX-License-Identifier: MIT
-- cache_tag: the versions of tags, for what is to be stored with them; made where there are none.     writes, O(tags)
-- KEYS[1]  <prefix>:{<name>}:<name>.cache+epoch   string: the epoch and the last tags that ended; lives for two days
-- KEYS[2...]  <prefix>:{<name>}:<name>.cache+tag.<id>   string: the tag's version, which is the epoch in which it was
--          made; lives as long as the entries that have it; up to 32
-- ARGV[1]  epoch when the load began, or 0: it does not matter (integer, 0 to 9007199254740991)
-- ARGV[2]  how long the entry lives in ms (integer, 1 to 9007199254740991)
-- ARGV[3]  ids of the tags, 16 bytes each, in the order of KEYS
-- Returns  {1, version, ...}  as texts
--          {-1} one of them was invalidated since the load began, or may have been; nothing was written
--- @include "status"
--- @include "cache_tags"
local names, key = KEYS, KEYS[1]
local began, ttl, ids = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]

local function is_integer(n, least) return n and n % 1 == 0 and n >= least and n <= 9007199254740991 end
if not is_integer(began, 0) or not is_integer(ttl, 1) or #names < 2 or #names > 33 or #ids ~= TAG_ID * (#names - 1) then
  return redis.error_reply("ERR cache_tag: ARGV is an epoch, a TTL in ms, and 16 bytes for each of 1 to 32 tags")
end
local epoch, ended = epoch_read(key)
local versions = redis.call("MGET", unpack(names, 2))
for i, text in ipairs(versions) do -- what is none is made anew
  local version = text and not text:find("%D") and tonumber(text)
  versions[i] = is_integer(version, 0) and version or false
end

-- Of the tags that were invalidated since, if all of them are known.
local steps, since = epoch - began, {}
local known = steps >= 0 and steps * TAG_ID <= #ended
for i = 1, known and steps or 0 do since[ended:sub(TAG_ID * (i - 1) + 1, TAG_ID * i)] = true end
for i = 1, began > 0 and #versions or 0 do
  local version = versions[i]
  local older = steps >= 0 and version and version <= began -- it was there all the time
  if not older and (not known or since[ids:sub(TAG_ID * (i - 1) + 1, TAG_ID * i)]) then return {CACHE_LOST} end
end

epoch_write(key, epoch, ended)
local answer, life = {CACHE_STORED}, string.format("%.0f", ttl)
for i = 1, #versions do
  answer[i + 1] = string.format("%.0f", versions[i] or epoch)
  if not versions[i] then
    redis.call("SET", names[i + 1], answer[i + 1], "PX", life)
  elseif redis.call("PTTL", names[i + 1]) < ttl then
    redis.call("PEXPIRE", names[i + 1], life)
  end
end
return answer
