-- queue_acked: text of queue_ack: the job is done.
  queue_unbind(jobs, id, record)
  if record[QUEUE_GROUP] then queue_groups(q).left(id, record[QUEUE_GROUP]) end
  redis.call("HINCRBY", state, "finished", "1")
  if tell then tell("completed", id, epoch) end
  if retention > 0 then
    redis.call("HDEL", jobs, "p" .. id, "e" .. id)
    redis.call("HSET", jobs, "r" .. id, result)
    redis.call("ZADD", done, queue_text(now + retention * 1000), id)
    queue_expire(q, now)
  else
    queue_forget(jobs, id)
  end
