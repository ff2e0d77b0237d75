-- SPDX-License-Identifier: MIT
-- stream_claim: takes over entries whose lease is over.                    writes, O((n + 1000) log pending)
-- KEYS[1]  <prefix>:{<name>}:stream            stream: {p}, group "workers"; lives for ever, as work does
-- KEYS[2]  <prefix>:{<name>}:stream.dead       stream: {p, id, attempts, epoch, error}; lives until somebody saw to them
-- KEYS[3]  <prefix>:{<name>}:stream.released   hash: by id, how often it was given back; lives as its entries do
-- ARGV[1]  consumer   ARGV[2]  lease in ms (integer, 1 to 86400000)   ARGV[3]  how many at most (integer, 1 to 500)
-- ARGV[4]  max attempts (integer, 1 to 1000000)   ARGV[5]  where to begin: "0-0", or the place of an answer before
-- ARGV[6]  silence in ms: consumers that have nothing and were not heard of for that long are forgotten; "-1": none is
-- Returns  {1, place, id, epoch, attempt, payload, ... of each}; place "0-0": all leases were looked at
-- An entry that was run max attempts times is dead instead.  The first call makes the group, and the stream with it.
--- @include "status"
--- @include "stream"
--- @include "stream_forget"
--- @include "stream_bury"
local stream, dead, released = KEYS[1], KEYS[2], KEYS[3]
local consumer, lease, count, most = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local place, silence = ARGV[5], ARGV[6]

lease, count, most = stream_whole(lease, 1, LONGEST), stream_whole(count, 1, 500), stream_whole(most, 1, 1000000)
silence = stream_whole(silence, -1, 9007199254740992)
if not (lease and count and most and silence and string.find(place, "^%d+%-%d+$")) then
  return redis.error_reply("ERR stream_claim: ARGV is consumer, lease in ms 1 to 86400000, count 1 to 500, "
    .. "max attempts 1 to 1000000, place, silence in ms >= -1")
end
local group = redis.pcall("XPENDING", stream, GROUP)
if group.err then
  if not string.find(group.err, "NOGROUP", 1, true) then return group end
  redis.call("XGROUP", "CREATE", stream, GROUP, "0", "MKSTREAM")
  return {STREAM_OK, "0-0"}
end
stream_keys(dead, released)
local answer, rounds, left = {STREAM_OK, place}, 0, count
if group[1] == 0 then answer[2], rounds = "0-0", 100 end
while rounds < 100 and left > 0 and not (rounds > 0 and answer[2] == "0-0") do
  rounds = rounds + 1
  local found = redis.call("XAUTOCLAIM", stream, GROUP, consumer, stream_text(lease), answer[2], "COUNT",
    stream_text(left))
  answer[2] = found[1]
  for _, entry in ipairs(found[2]) do
    if entry then -- Redis 6.2 has a hole here for what a stranger deleted
      local id, epoch = entry[1], redis.call("XPENDING", stream, GROUP, entry[1], entry[1], "1")[1][4]
      local attempt, payload = stream_attempt(released, id, epoch), stream_payload(entry[2])
      if attempt > most then
        stream_bury(stream, dead, released, id, epoch, attempt - 1, payload, "its lease was over too often")
      else
        left = left - 1
        for _, value in ipairs {id, epoch, attempt, payload} do answer[#answer + 1] = value end
      end
    end
  end
end
if silence >= 0 then
  for _, info in ipairs(redis.call("XINFO", "CONSUMERS", stream, GROUP)) do
    if info[4] == 0 and info[6] >= silence then redis.call("XGROUP", "DELCONSUMER", stream, GROUP, info[2]) end
  end
end
return answer
