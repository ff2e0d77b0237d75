-- queue_given: the jobs of a pop whose request is repeated: those that are still leased under the epochs it was given, as
-- `given` lists them, in pairs.  Their leases begin anew.
local function queue_given(q, given, now, lease, answer)
  local over = queue_text(now + lease * 1000)
  for i = 1, #given, 2 do
    local id, epoch = given[i]:match("^%Z*"), given[i + 1] -- without the group
    local record = queue_leased(q.jobs, q.leased, id, queue_text(epoch), true)
    if record then
      redis.call("ZADD", q.leased, "XX", "GT", over, id)
      local payload = redis.call("HGET", q.jobs, "p" .. id) or ""
      for _, value in ipairs {given[i], epoch, record[QUEUE_FAILURES] + record[QUEUE_CRASHES] + 1, payload} do
        answer[#answer + 1] = value
      end
    end
  end
  return answer
end
