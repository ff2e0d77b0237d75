-- SPDX-License-Identifier: MIT
-- stream_ack: an entry is done, if the caller still has its lease.                       writes, O(log pending)
-- KEYS[1]  <prefix>:{<name>}:stream            stream: {p}, group "workers"; lives for ever, as work does
-- KEYS[2]  <prefix>:{<name>}:stream.released   hash: by id, how often it was given back; lives as its entries do
-- ARGV[1]  consumer   ARGV[2]  id   ARGV[3]  epoch (integer > 0)
-- ARGV[4]  next, "1": the next new entry is taken in the same step, else "0"
-- Returns  {1} done     {1, id, epoch, attempt, payload} done, and the next one     {0} nobody has it
--          {-1} another has it, or it was given back or taken over since
-- XACK would remove it whoever asks.
--- @include "status"
--- @include "stream"
--- @include "stream_forget"
--- @include "stream_bury"
local stream, released = KEYS[1], KEYS[2]
local consumer, id, epoch, next = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

epoch = stream_whole(epoch, 1, 9007199254740992)
if not epoch then return redis.error_reply("ERR stream_ack: ARGV is consumer, id, epoch > 0") end
local refused = stream_lease(stream, consumer, id, epoch)
if refused then return refused end
redis.call("HLEN", released) -- fails before anything is written, if it is no hash
stream_forget(stream, released, id, epoch)
local found = next == "1"
  and redis.call("XREADGROUP", "GROUP", GROUP, consumer, "COUNT", "1", "STREAMS", stream, ">")
if not found then return {STREAM_OK} end
local entry = found[1][2][1]
return {STREAM_OK, entry[1], 1, 1, stream_payload(entry[2])}
