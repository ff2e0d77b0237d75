-- queue_expire: what is over, at most 1,000 in one call.
local function queue_over(zset, now)
  return redis.call("ZRANGEBYSCORE", zset, "-inf", queue_text(now), "LIMIT", "0", "1000")
end

-- Results whose time is over.
local function queue_expire(q, now)
  for _, id in ipairs(queue_over(q.done, now)) do
    redis.call("ZREM", q.done, id)
    queue_forget(q.jobs, id)
  end
end
