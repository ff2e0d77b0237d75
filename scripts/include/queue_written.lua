-- queue_written: text of queue_push: its writes.
for i = 1, n, 900 do redis.call("HSET", jobs, unpack(fields, i, math.min(i + 899, n))) end
if #now_ready > 0 then redis.call("ZADD", ready, unpack(now_ready)) end
if #later > 0 then redis.call("ZADD", delayed, unpack(later)) end
if #grouped > 0 then queue_groups({jobs = jobs, state = state, groups = groups, wake = wake}).add(grouped) end
for i, id in ipairs(tell and ids or {}) do
  if answer[2 * i] == QUEUE_OK then tell(kinds[i].delay > 0 and "delayed" or "added", id, "0") end
end
