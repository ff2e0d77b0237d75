-- SPDX-License-Identifier: MIT
-- cache_invalidate: end tags: nothing holds that has one, and nothing is stored that is being loaded.   writes, O(tags)
-- KEYS[1]  <prefix>:{<name>}:<name>.cache+epoch   string: the epoch and the last tags that ended; lives for two days
-- KEYS[2...]  <prefix>:{<name>}:<name>.cache+tag.<id>   string: the tag's version; deleted; up to 32
-- ARGV[1]  ids of the tags, 16 bytes each, in the order of KEYS
-- Returns  {1}
--- @include "status"
--- @include "cache_tags"
local names, key = KEYS, KEYS[1]
local ids = ARGV[1]

if #names < 2 or #names > 33 or #ids ~= TAG_ID * (#names - 1) then
  return redis.error_reply("ERR cache_invalidate: ARGV[1] is 16 bytes for each of 1 to 32 tags")
end
local epoch, ended = epoch_read(key)
redis.call("DEL", unpack(names, 2))
epoch_write(key, epoch + #names - 1, ids .. ended)
return {CACHE_STORED}
