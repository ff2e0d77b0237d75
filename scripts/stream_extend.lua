-- SPDX-License-Identifier: MIT
-- stream_extend: prolongs a lease that the caller still has; never shortens it.          writes, O(log pending)
-- KEYS[1]  <prefix>:{<name>}:stream            stream: {p}, group "workers"; lives for ever, as work does
-- ARGV[1]  consumer   ARGV[2]  id   ARGV[3]  epoch (integer > 0)
-- ARGV[4]  lease of the queue in ms (integer, 1 to 86400000)   ARGV[5]  ms from now on (integer, 1 to the lease)
-- Returns  {1, ms that are left now}   {0} nobody has it   {-1} the lease is not this one any more
-- A stream knows when an entry was given out, not until when, so no lease is longer than the queue's.
--- @include "status"
--- @include "stream"
local stream = KEYS[1]
local consumer, id, epoch, lease, wanted = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]

epoch, lease = stream_whole(epoch, 1, 9007199254740992), stream_whole(lease, 1, LONGEST)
wanted = lease and stream_whole(wanted, 1, lease)
if not (epoch and wanted) then
  return redis.error_reply("ERR stream_extend: ARGV is consumer, id, epoch > 0, lease in ms 1 to 86400000, "
    .. "ms 1 to the lease")
end
local refused, held = stream_lease(stream, consumer, id, epoch)
if refused then return refused end
local idle = math.min(held[3], lease - wanted)
redis.call("XCLAIM", stream, GROUP, consumer, "0", id, "IDLE", stream_text(idle), "JUSTID")
return {STREAM_OK, lease - idle}
