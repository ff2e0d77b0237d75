-- SPDX-License-Identifier: MIT
-- stream_nack: a run has failed; the entry is for anybody again, or dead.                writes, O(log pending)
-- KEYS[1]  <prefix>:{<name>}:stream            stream: {p}, group "workers"; lives for ever, as work does
-- KEYS[2]  <prefix>:{<name>}:stream.dead       stream: {p, id, attempts, epoch, error}; lives until somebody saw to them
-- KEYS[3]  <prefix>:{<name>}:stream.released   hash: by id, how often it was given back; lives as its entries do
-- ARGV[1]  consumer   ARGV[2]  id   ARGV[3]  epoch (integer > 0)   ARGV[4]  max attempts (integer, 1 to 1000000)
-- ARGV[5]  lease of the queue in ms (integer, 1 to 86400000)   ARGV[6]  delay in ms (integer, 0 to the lease)
-- ARGV[7]  fatal, "1": it is dead at once, else "0"   ARGV[8]  why it failed (up to 1000 bytes are kept, of a dead one)
-- Returns  {1} it will run again   {2} it is dead   {0} nobody has it   {-1} the lease is not this one any more
--- @include "status"
--- @include "stream"
--- @include "stream_forget"
--- @include "stream_bury"
local stream, dead, released = KEYS[1], KEYS[2], KEYS[3]
local consumer, id, epoch, most = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local lease, delay, fatal, why = ARGV[5], ARGV[6], ARGV[7], ARGV[8]

epoch, most = stream_whole(epoch, 1, 9007199254740992), stream_whole(most, 1, 1000000)
lease = stream_whole(lease, 1, LONGEST)
delay = lease and stream_whole(delay, 0, lease)
if not (epoch and most and delay) then
  return redis.error_reply("ERR stream_nack: ARGV is consumer, id, epoch > 0, max attempts 1 to 1000000, "
    .. "lease in ms 1 to 86400000, delay in ms 0 to the lease, fatal, error")
end
local refused = stream_lease(stream, consumer, id, epoch)
if refused then return refused end
stream_keys(dead, released)
local attempt = stream_attempt(released, id, epoch)
if fatal == "1" or attempt >= most then
  local entry = redis.call("XRANGE", stream, id, id)[1]
  local payload = entry and stream_payload(entry[2]) or ""
  stream_bury(stream, dead, released, id, epoch, attempt, payload, string.sub(why, 1, 1000))
  return {STREAM_DEAD}
end
-- Without a delay it is there for every worker, whatever its lease.
local idle = delay == 0 and LONGEST or lease - delay
redis.call("XCLAIM", stream, GROUP, NOBODY, "0", id, "IDLE", stream_text(idle), "JUSTID")
return {STREAM_OK}
