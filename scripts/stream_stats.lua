-- SPDX-License-Identifier: MIT
-- stream_stats: how many entries there are, and who has them.                              reads, O(consumers)
-- KEYS[1]  <prefix>:{<name>}:stream            stream: {p}, group "workers"; lives for ever, as work does
-- KEYS[2]  <prefix>:{<name>}:stream.dead       stream: {p, id, attempts, epoch, error}; lives until somebody saw to them
-- Returns  {1, ready, given back and not taken yet, leased, dead}
--- @include "status"
--- @include "stream"
local stream, dead = KEYS[1], KEYS[2]

local all, pending, back = redis.call("XLEN", stream), 0, 0
local group = redis.pcall("XPENDING", stream, GROUP)
if group.err then
  if not string.find(group.err, "NOGROUP", 1, true) then return group end
elseif group[1] > 0 then
  pending = group[1]
  for _, consumer in ipairs(group[4]) do
    if consumer[1] == NOBODY then back = tonumber(consumer[2]) end
  end
end
return {STREAM_OK, math.max(all - pending, 0), back, pending - back, redis.call("XLEN", dead)}
