-- SPDX-License-Identifier: MIT
-- stream_release: gives an entry back unrun; the attempt does not count.                writes, O(log pending)
-- KEYS[1]  <prefix>:{<name>}:stream            stream: {p}, group "workers"; lives for ever, as work does
-- KEYS[2]  <prefix>:{<name>}:stream.released   hash: by id, how often it was given back; lives as its entries do
-- ARGV[1]  consumer   ARGV[2]  id   ARGV[3]  epoch (integer > 0)
-- Returns  {1} given back   {0} nobody has it   {-1} the lease is not this one any more
--- @include "status"
--- @include "stream"
local stream, released = KEYS[1], KEYS[2]
local consumer, id, epoch = ARGV[1], ARGV[2], ARGV[3]

epoch = stream_whole(epoch, 1, 9007199254740992)
if not epoch then return redis.error_reply("ERR stream_release: ARGV is consumer, id, epoch > 0") end
local refused = stream_lease(stream, consumer, id, epoch)
if refused then return refused end
redis.call("HINCRBY", released, id, "1")
redis.call("XCLAIM", stream, GROUP, NOBODY, "0", id, "IDLE", stream_text(LONGEST), "JUSTID")
return {STREAM_OK}
