-- queue_due: what time moves on, at most 1,000 of each kind in one call.  A member without a record is dropped.

-- The time (us) at which the first of the set is due.
local function queue_first(zset)
  local first = redis.call("ZRANGE", zset, "0", "0", "WITHSCORES")
  return tonumber(first[2] or math.huge)
end

-- Delayed jobs that are due join the end of their priority's queue.  Returns the last place that was given, and when the
-- next job is due.
local function queue_promote(q, now, seq)
  local first = queue_first(q.delayed)
  if first > now then return seq, first end
  for _, id in ipairs(queue_over(q.delayed, now)) do
    local record = queue_record(q.jobs, id)
    redis.call("ZREM", q.delayed, id)
    if record then
      seq = seq + 1
      record[QUEUE_SEQ] = seq
      queue_put(q.jobs, id, record)
      queue_ready(q, id, record)
    end
  end
  return seq, queue_first(q.delayed)
end

-- Jobs whose lease is over have crashed once more, and keep their place.  Returns when the next lease is over.
local function queue_reap(q, now)
  local first = queue_first(q.leased)
  if first > now then return first end
  for _, id in ipairs(queue_over(q.leased, now)) do
    local record = queue_record(q.jobs, id)
    redis.call("ZREM", q.leased, id)
    if record then
      record[QUEUE_CRASHES] = record[QUEUE_CRASHES] + 1
      queue_put(q.jobs, id, record)
      if record[QUEUE_GROUP] then queue_groups(q).left(id, record[QUEUE_GROUP]) end
      local dies = record[QUEUE_CRASHES] >= record[QUEUE_MAX_CRASHES]
      if q.tell then q.tell(dies and "dead" or "stalled", id, queue_text(record[QUEUE_EPOCH])) end
      if not dies then
        queue_ready(q, id, record)
      else
        redis.call("HSET", q.jobs, "e" .. id, "its lease ended before it was done")
        queue_unbind(q.jobs, id, record)
        redis.call("ZADD", q.dead, queue_text(now), id)
      end
    end
  end
  return queue_first(q.leased)
end
