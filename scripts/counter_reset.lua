-- SPDX-License-Identifier: MIT
-- counter_reset: forget what a key counted.                                          writes, O(1)
-- KEYS[1]  <prefix>:{<key>}:<counter>.<kind>   string: as counter_increment keeps it
-- Returns  {1} there was a count to forget     {0} there was none
local counter = KEYS[1]
return {redis.call("DEL", counter)}
