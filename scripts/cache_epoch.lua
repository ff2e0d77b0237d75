-- SPDX-License-Identifier: MIT
-- cache_epoch: the epoch of a cache's tags, to be read before a load begins.                       writes, O(1)
-- KEYS[1]  <prefix>:{<name>}:<name>.cache+epoch   string: the epoch and the last tags that ended; lives for two days
-- Returns  {1, epoch}  as text
--- @include "status"
--- @include "cache_tags"
local key = KEYS[1]

local epoch, ids = epoch_read(key)
epoch_write(key, epoch, ids)
return {CACHE_STORED, string.format("%.0f", epoch)}
