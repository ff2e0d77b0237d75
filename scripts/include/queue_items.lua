-- queue_items: jobs to be pushed, and which of them may be.
local QUEUE_FIELDS, QUEUE_MOST = 7, 500 -- arguments of a job, and jobs in one call

-- A list of jobs, or nil when an argument is not acceptable.
local function queue_items(args)
  local count, items = #args / QUEUE_FIELDS, {}
  if count % 1 ~= 0 or count < 1 or count > QUEUE_MOST then return nil end
  for i = 1, count do
    local at = (i - 1) * QUEUE_FIELDS
    local item = {id = args[at + 1], payload = args[at + 2], unique = args[at + 7]}
    item.priority, item.delay = queue_whole(args[at + 3], 0, 1023), queue_whole(args[at + 4], 0, 315360000000)
    item.attempts, item.crashes = queue_whole(args[at + 5], 1, 1000000), queue_whole(args[at + 6], 1, 1000000)
    if not (item.priority and item.delay and item.attempts and item.crashes) or #item.id < 1 or #item.id > 128
      or #item.unique > 256 then
      return nil
    end
    items[i] = item
  end
  return items
end

-- Whether a job has the id.  A result whose time is over is dropped: its id is free again.
local function queue_taken(jobs, done, id, now)
  local ends = redis.call("ZSCORE", done, id)
  if not ends or tonumber(ends) > now then return true end
  redis.call("ZREM", done, id)
  queue_forget(jobs, id)
  return false
end

-- The state of each item: QUEUE_OK, QUEUE_TAKEN or QUEUE_HELD, and the id of its own or of the job that has its key.
local function queue_places(jobs, done, items, now)
  local fields, states = {}, {}
  for i, item in ipairs(items) do
    fields[2 * i - 1], fields[2 * i] = "j" .. item.id, "u" .. item.unique
  end
  local found, own = redis.call("HMGET", jobs, unpack(fields)), {}
  for i, item in ipairs(items) do
    local id, unique = fields[2 * i - 1], fields[2 * i]
    local holder = unique ~= "u" and (found[2 * i] or own[unique])
    if own[id] or found[2 * i - 1] and queue_taken(jobs, done, item.id, now) then states[i] = {QUEUE_TAKEN, item.id}
    elseif holder then states[i] = {QUEUE_HELD, holder}
    else states[i], own[id], own[unique] = {QUEUE_OK, item.id}, true, item.id end
  end
  return states
end
