-- queue_lease: whose a job is.  A lease that is over counts until somebody took the job: the work is done, after all.
local function queue_leased(jobs, leased, id, epoch)
  local record = queue_record(jobs, id)
  if not record then return nil, QUEUE_GONE end
  if queue_text(record[QUEUE_EPOCH]) ~= epoch or not redis.call("ZSCORE", leased, id) then
    return nil, QUEUE_LOST, record
  end
  return record
end
