-- queue_written: text of queue_push: its writes.
for i = 1, n, 900 do redis.call("HSET", jobs, unpack(fields, i, math.min(i + 899, n))) end
if #now_ready > 0 then redis.call("ZADD", ready, unpack(now_ready)) end
if #later > 0 then redis.call("ZADD", delayed, unpack(later)) end
if grouped then
--- @include "queue_move"
  queue_groups({jobs = jobs, state = state, groups = groups, wake = wake}).add(grouped)
end
if tell then
  for i, id in ipairs(ids) do
    if answer[2 * i] == QUEUE_OK then tell(kinds[i].delay > 0 and "delayed" or "added", id, "0") end
  end
end
