-- SPDX-License-Identifier: MIT
-- topic_remove: a named reader ends: its cursor is forgotten.                                             writes, O(1)
-- KEYS[1]  <prefix>:{<name>}:topic.readers   hash: cursors by name; lives until the last reader is removed
-- ARGV[1]  name of the reader
-- Returns  {1} removed   {0} there was none
--- @include "status"
local readers = KEYS[1]
local name = ARGV[1]

return {redis.call("HDEL", readers, name) == 1 and TOPIC_OK or TOPIC_GONE}
