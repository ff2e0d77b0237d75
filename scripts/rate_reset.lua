-- SPDX-License-Identifier: MIT
-- rate_reset: forget what a key used.                                          writes, O(1) (sliding_log: O(n))
-- KEYS[1]  <prefix>:{<key>}:<limiter>.<part>   state: of the limit, as rate_allow keeps it
-- Returns  {1} there was something to forget     {0} there was not
local key = KEYS[1]
return {redis.call("DEL", key)}
