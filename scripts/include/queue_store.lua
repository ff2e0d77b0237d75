-- queue_store: writes of what include/queue.lua says.
local function queue_put(jobs, id, record)
  redis.call("HSET", jobs, "j" .. id, cmsgpack.pack(record))
end

-- Lets go of the unique key that a job has.
local function queue_unbind(jobs, id, record)
  local field = "u" .. record[QUEUE_UNIQUE]
  if field ~= "u" and redis.call("HGET", jobs, field) == id then redis.call("HDEL", jobs, field) end
end

--- @include "queue_forget"
