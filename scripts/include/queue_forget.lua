-- queue_forget: a job is there no more.
local function queue_forget(jobs, id)
  redis.call("HDEL", jobs, "j" .. id, "p" .. id, "e" .. id, "r" .. id)
end
