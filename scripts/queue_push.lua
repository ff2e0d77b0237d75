-- SPDX-License-Identifier: MIT
-- queue_push: new jobs, as many of them as may be; the others are written not even in part.   writes, O(n * log jobs)
-- KEYS[1]  <prefix>:{<name>}:queue.jobs      hash: records, payloads, unique keys, of jobs that have to live for ever
-- KEYS[2]  <prefix>:{<name>}:queue.state     hash: seq, epoch, counters; lives for ever: a seq or epoch never comes again
-- KEYS[3]  <prefix>:{<name>}:queue.ready     zset: ids by priority and seq; lives for ever, as its jobs do
-- KEYS[4]  <prefix>:{<name>}:queue.delayed   zset: ids by the time they are due (us); lives for ever, as its jobs do
-- KEYS[5]  <prefix>:{<name>}:queue.done      zset: ids of done jobs by the end of their results (us)
-- KEYS[6]  <prefix>:{<name>}:queue.wake      zset: the marker, if a worker is to be woken; one at most, needs no TTL
-- KEYS[7]  <prefix>:{<name>}:queue.groups    zset: what include/queue_group.lua says; lives for ever, as its jobs do
-- KEYS[8]  <prefix>:{<name>}:queue+req.<id>  string: optional: the answer to this request; lives 10 minutes
-- KEYS, the last, optional: <prefix>:{<name>}:queue.events, a stream, kept to about as many entries as the last ARGV says
-- ARGV, of each job, at most 500: id (1 to 128 bytes, the first not NUL), payload, priority (0 to 1023: that goes first),
--          delay in ms (0 to 315360000000), max attempts and crashes (1 to 1000000), unique key (to 256 bytes, "": none),
--          and behind it, with a group, a NUL byte and the group (1 to 128 bytes)
-- Returns  {1, state, id, ...} of each job: 1 pushed; 0 its id is taken; -1 the job of that id has its unique key
--- @include "clock"
--- @include "status"
--- @include "request"
--- @include "again"
--- @include "queue"
--- @include "queue_forget"
--- @include "queue_wake"
--- @include "queue_items"
local length = #ARGV % 7 == 1 and table.remove(ARGV)
local events = length and table.remove(KEYS)
local jobs, state, ready, delayed = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local done, wake, groups, request, args = KEYS[5], KEYS[6], KEYS[7], KEYS[8], ARGV
--- @include "queue_tell"
local ids, kinds = queue_items(args)
local seq, pushed, keep = unpack(redis.call("HMGET", state, "seq", "pushed", "keep"))
seq, pushed, keep = tonumber(seq or 0), tonumber(pushed or 0), tonumber(keep or 0)
if not ids or seq + #ids > QUEUE_LAST then
  return redis.error_reply("ERR queue_push: ARGV is 1 to 500 times id, payload, priority 0 to 1023, delay in ms, "
    .. "max attempts, max crashes, unique key and group; and a queue has 2^42 places")
end
local answered = request_answered(request)
if answered then return written_again(request) or answered end
local answer, records = queue_places(jobs, done, ids, kinds, now)
local fields, now_ready, later, grouped, due, n = {}, {}, {}, nil, math.huge, 0
for i, id in ipairs(ids) do
  if answer[2 * i] == QUEUE_OK then
    local kind, list, score, member = kinds[i], now_ready, nil, id
    seq, pushed = seq + 1, pushed + 1
    fields[n + 1], fields[n + 2] = records[i], kind.before .. cmsgpack.pack(seq) .. kind.behind
    fields[n + 3], fields[n + 4] = "p" .. id, args[7 * i - 5]
    n = n + 4
    if kind.unique ~= "" then fields[n + 1], fields[n + 2], n = "u" .. kind.unique, id, n + 2 end
    if kind.delay > 0 then list, score, due = later, now + kind.delay * 1000, math.min(due, now + kind.delay * 1000)
    elseif kind.group then
      grouped = grouped or {}
      list, score, member = grouped, 0, kind.front .. string.format("%016.0f", kind.score + seq) .. id
    end
    list[#list + 1] = queue_text(score or kind.score + seq)
    list[#list + 1] = member
  end
end
--- @include "queue_written"
redis.call("HSET", state, "seq", queue_text(seq), "pushed", queue_text(pushed))
if #now_ready > 0 or queue_unkept(keep, now, due) then queue_ring(wake) end
return request_keep(request, answer)
