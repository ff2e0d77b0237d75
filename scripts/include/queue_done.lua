-- queue_done: ends many jobs well, with few requests.

-- {1, code of each}, and the ids of those that end by this.  args: behind the third, ids and epochs.
local function queue_done_codes(q, args, n)
  local ids, fields, answer, ended = {}, {}, {QUEUE_OK}, {}
  for i = 1, n do
    ids[i] = args[2 * i + 2]
    fields[i] = "j" .. ids[i]
  end
  local records, leases = redis.call("HMGET", q.jobs, unpack(fields)), redis.call("ZMSCORE", q.leased, unpack(ids))
  local said = {}
  for i, id in ipairs(ids) do
    local record = records[i] and cmsgpack.unpack(records[i])
    local own = record and queue_text(record[QUEUE_EPOCH]) == args[2 * i + 3]
    answer[i + 1] = record and QUEUE_LOST or QUEUE_GONE
    if own and leases[i] then
      answer[i + 1] = QUEUE_OK
      if not said[id] then ended[#ended + 1], said[id] = {id = id, record = record}, true end
    elseif own and redis.call("ZSCORE", q.done, id) then
      answer[i + 1] = QUEUE_OK
    end
  end
  return answer, ended
end

local function queue_done(q, ended, retention, now)
  local ids, fields, results = {}, {}, {}
  for i, job in ipairs(ended) do
    ids[i] = job.id
    queue_unbind(q.jobs, job.id, job.record)
    local kinds = retention > 0 and {"p", "e", "r"} or {"j", "p", "e", "r"}
    for _, kind in ipairs(kinds) do fields[#fields + 1] = kind .. job.id end
    results[2 * i - 1], results[2 * i] = queue_text(now + retention * 1000), job.id
  end
  redis.call("ZREM", q.leased, unpack(ids))
  for _, job in ipairs(ended) do
    local group = job.record[QUEUE_GROUP]
    if group then queue_groups(q).left(job.id, group) end
    if q.tell then q.tell("completed", job.id, queue_text(job.record[QUEUE_EPOCH])) end
  end
  for i = 1, #fields, 900 do redis.call("HDEL", q.jobs, unpack(fields, i, math.min(i + 899, #fields))) end
  if retention > 0 then
    redis.call("ZADD", q.done, unpack(results))
    queue_expire(q, now)
  end
  redis.call("HINCRBY", q.state, "finished", queue_text(#ended))
end
