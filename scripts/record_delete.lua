-- SPDX-License-Identifier: MIT
-- record_delete: a record is no more.                                                writes, O(n)
-- KEYS[1]  <prefix>:{<id>}:<name>.record   hash: the fields, _v (version), _c (created, ms); lives as its writers say
-- Returns  {1} there was one    {0} there was none
local record = KEYS[1]
return {redis.call("DEL", record)}
