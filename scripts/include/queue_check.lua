-- queue_check: judges what the keys of a queue hold; appends what is wrong, and the id, to `answer`.
local function queue_wrong(answer, what, id)
  answer[#answer + 1], answer[#answer + 2] = what, id
end

local function queue_check_member(jobs, id, answer)
  if redis.call("HEXISTS", jobs, "j" .. id) == 0 then queue_wrong(answer, "no record", id) end
end

local function queue_check_record(jobs, sets, id, record, answer)
  local places, done = 0, false
  for i, set in ipairs(sets) do
    if redis.call("ZSCORE", set, id) then places, done = places + 1, i == 5 end
  end
  answer[3] = answer[3] + 1
  if places == 0 then queue_wrong(answer, "in no place", id) end
  if places > 1 then queue_wrong(answer, "in more than one place", id) end
  if not done and redis.call("HEXISTS", jobs, "p" .. id) == 0 then queue_wrong(answer, "no payload", id) end
  local unique = record[QUEUE_UNIQUE]
  local free = unique == "" or done or redis.call("ZSCORE", sets[4], id)
  if not free and redis.call("HGET", jobs, "u" .. unique) ~= id then queue_wrong(answer, "unique key lost", id) end
end

-- One field of the hash of jobs.
local function queue_check_field(jobs, sets, field, value, answer)
  local kind, id = field:sub(1, 1), field:sub(2)
  if kind == "j" then
    queue_check_record(jobs, sets, id, cmsgpack.unpack(value), answer)
  elseif kind == "u" then
    local holder = queue_record(jobs, value)
    local bound = holder and holder[QUEUE_UNIQUE] == id and not redis.call("ZSCORE", sets[4], value)
    if not bound or redis.call("ZSCORE", sets[5], value) then queue_wrong(answer, "unique key of no job", value) end
  elseif redis.call("HEXISTS", jobs, "j" .. id) == 0 then
    queue_wrong(answer, "no record", id)
  end
end
