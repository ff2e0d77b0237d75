-- SPDX-License-Identifier: MIT
-- stream_redrive: dead entries are new ones, those that died first in front.                   writes, O(n)
-- KEYS[1]  <prefix>:{<name>}:stream            stream: {p}, group "workers"; lives for ever, as work does
-- KEYS[2]  <prefix>:{<name>}:stream.dead       stream: {p, id, attempts, epoch, error}; lives until somebody saw to them
-- ARGV[1]  how many at most (integer, 1 to 500)
-- Returns  {1, how many}
--- @include "status"
--- @include "stream"
--- @include "stream_forget"
--- @include "stream_bury"
local stream, dead = KEYS[1], KEYS[2]
local count = ARGV[1]

count = stream_whole(count, 1, 500)
if not count then return redis.error_reply("ERR stream_redrive: ARGV is count 1 to 500") end
local found = redis.call("XRANGE", dead, "-", "+", "COUNT", stream_text(count))
for _, entry in ipairs(found) do
  redis.call("XADD", stream, "*", "p", stream_payload(entry[2]))
  redis.call("XDEL", dead, entry[1])
end
return {STREAM_OK, #found}
