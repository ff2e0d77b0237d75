-- SPDX-License-Identifier: MIT
-- rate_reset: forget what a key used.                                                writes, O(n)
-- KEYS[1]  <prefix>:{<key>}:<limiter>.log   list: stamps (us), oldest first; lives until the last leaves the window
-- Returns  {1} there was something to forget     {0} there was not
local log = KEYS[1]
return {redis.call("DEL", log)}
