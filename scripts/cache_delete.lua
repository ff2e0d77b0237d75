-- SPDX-License-Identifier: MIT
-- cache_delete: delete an entry, and void the lease of who loads it: what that one stores is void, too.      writes, O(1)
-- KEYS[1]  <prefix>:{<key>}:<name>.cache         string: the entry; deleted
-- KEYS[2]  <prefix>:{<key>}:<name>.cache+lease   string: token of who loads it; deleted
-- KEYS[3]  <prefix>:{<key>}:<name>.cache+waits   string: somebody waits (include/waits.lua); taken away, and told
-- Returns  {1}
--- @include "status"
local entry, lease, waits = KEYS[1], KEYS[2], KEYS[3]

redis.call("UNLINK", entry, lease)
if redis.call("DEL", waits) == 1 then redis.pcall("PUBLISH", waits, "") end
return {CACHE_STORED}
