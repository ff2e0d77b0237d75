-- SPDX-License-Identifier: MIT
-- stream_ack: an entry is done, if the caller still has its lease.                       writes, O(log pending)
-- KEYS[1]  <prefix>:{<name>}:stream            stream: {p}, group "workers"; lives for ever, as work does
-- KEYS[2]  <prefix>:{<name>}:stream.released   hash: by id, how often it was given back; lives as its entries do
-- ARGV[1]  consumer   ARGV[2]  id   ARGV[3]  epoch (integer > 0)
-- Returns  {1} done   {0} nobody has it   {-1} another has it, or it was given back or taken over since
-- XACK would remove it whoever asks.
--- @include "status"
--- @include "stream"
--- @include "stream_forget"
local stream, released = KEYS[1], KEYS[2]
local consumer, id, epoch = ARGV[1], ARGV[2], ARGV[3]

epoch = stream_whole(epoch, 1, 9007199254740992)
if not epoch then return redis.error_reply("ERR stream_ack: ARGV is consumer, id, epoch > 0") end
local refused = stream_lease(stream, consumer, id, epoch)
if refused then return refused end
redis.call("HLEN", released) -- fails before anything is written, if it is no hash
stream_forget(stream, released, id, epoch)
return {STREAM_OK}
