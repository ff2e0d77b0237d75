-- queue_lease: whose a job is.  A lease that is over counts until somebody took the job: the work is done, after all.

-- The record of a job that is leased under `epoch`; else nil, and why.  look: the lease goes on; else this ends it.
local function queue_leased(jobs, leased, id, epoch, look)
  local record = queue_record(jobs, id)
  if not record then return nil, QUEUE_GONE end
  if queue_text(record[QUEUE_EPOCH]) ~= epoch then return nil, QUEUE_LOST, record end
  local found = look and redis.call("ZSCORE", leased, id) or not look and redis.call("ZREM", leased, id) == 1
  if not found then return nil, QUEUE_LOST, record end
  return record
end
