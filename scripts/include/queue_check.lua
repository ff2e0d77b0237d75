-- queue_check: judges what the keys of a queue hold; appends what is wrong, and the id, to `answer`.
local function queue_wrong(answer, what, id)
  answer[#answer + 1], answer[#answer + 2] = what, id
end

local function queue_check_member(jobs, id, answer)
  if bundle_marks(id) then
    local base = bundle_name(id)
    if not bundle_read(jobs, base) then queue_wrong(answer, "no record", base) end
    return
  end
  if redis.call("HEXISTS", jobs, "j" .. id) == 0 then queue_wrong(answer, "no record", id) end
end

-- A job of a group is leased if and only if it is counted there.
local function queue_check_counted(q, id, record, answer)
  local counted = redis.call("ZSCORE", q.groups, "r" .. record[QUEUE_GROUP] .. "\0" .. id)
  local leased = redis.call("ZSCORE", q.leased, id)
  if leased and not counted then queue_wrong(answer, "not counted in its group", id) end
  if counted and not leased then queue_wrong(answer, "counted in its group, and not leased", id) end
end

local function queue_check_record(q, sets, id, record, answer)
  local jobs, places, done, group = q.jobs, 0, false, record[QUEUE_GROUP]
  for i = 1, 5 do
    if redis.call("ZSCORE", sets[i], id) then places, done = places + 1, i == 5 end
  end
  if group then
    if redis.call("ZSCORE", q.groups, group_place(id, record)) then places = places + 1 end
    if redis.call("ZSCORE", sets[1], id) then queue_wrong(answer, "among those without a group", id) end
    queue_check_counted(q, id, record, answer)
  end
  answer[3] = answer[3] + 1
  if places == 0 then queue_wrong(answer, "in no place", id) end
  if places > 1 then queue_wrong(answer, "in more than one place", id) end
  if not done and redis.call("HEXISTS", jobs, "p" .. id) == 0 then queue_wrong(answer, "no payload", id) end
  local unique = record[QUEUE_UNIQUE]
  local free = unique == "" or done or redis.call("ZSCORE", sets[4], id)
  if not free and redis.call("HGET", jobs, "u" .. unique) ~= id then queue_wrong(answer, "unique key lost", id) end
end

-- What a group has is in the set, too.
local function queue_check_turn(q, group, g, answer)
  local rank, over = g[GROUP_RANK], g[GROUP_OVER]
  local function lost(kind, number)
    return number > 0 and not redis.call("ZSCORE", q.groups, group_text(kind, number, group))
  end
  if lost("t", rank) then queue_wrong(answer, "turn lost", group) end
  if lost("x", over) then queue_wrong(answer, "window lost", group) end
  if g[GROUP_BLOCKED] % 2 == GROUP_FULL and not group_first(q, "r", group, "1")[1] then
    queue_wrong(answer, "full of no jobs", group)
  end
  if g[GROUP_BLOCKED] >= GROUP_SPENT and over == 0 then queue_wrong(answer, "has no window to wait for", group) end
end

-- One field of the hash of jobs.
local function queue_check_field(q, sets, field, value, answer)
  local jobs, kind, id = q.jobs, field:sub(1, 1), field:sub(2)
  if kind == "j" then
    queue_check_record(q, sets, id, cmsgpack.unpack(value), answer)
  elseif kind == "b" then
    local bundle = bundle_read(jobs, id)
    answer[3] = answer[3] + (bundle and bundle.count or 0)
    if not (bundle and redis.call("ZSCORE", sets[1], bundle.member)) then queue_wrong(answer, "in no place", id) end
  elseif kind == "c" then
    if redis.call("HEXISTS", jobs, "b" .. id) == 0 then queue_wrong(answer, "no record", id) end
  elseif kind == "g" then
    queue_check_turn(q, id, cmsgpack.unpack(value), answer)
  elseif kind == "u" then
    local holder = queue_record(jobs, value)
    local bound = holder and holder[QUEUE_UNIQUE] == id and not redis.call("ZSCORE", sets[4], value)
    if not bound or redis.call("ZSCORE", sets[5], value) then queue_wrong(answer, "unique key of no job", value) end
  elseif redis.call("HEXISTS", jobs, "j" .. id) == 0 then
    queue_wrong(answer, "no record", id)
  end
end

-- One member of the set of groups.
local function queue_check_group(q, member, answer)
  local kind, group = member:sub(1, 1), member:sub(18)
  if kind == "t" or kind == "x" then
    local g = group_read(q, group)
    local idle = g[GROUP_BLOCKED] > 0 or not group_first(q, "w", group, "1")[1]
    local same = group_text(kind, g[kind == "t" and GROUP_RANK or GROUP_OVER], group) == member
    if not same then queue_wrong(answer, kind == "t" and "turn of no group" or "window of no group", group) end
    if kind == "t" and idle then queue_wrong(answer, "has a turn, and cannot take it", group) end
    return
  end
  local of, rest = member:match("^.(%Z+)%z(.*)$")
  local id = kind == "w" and rest:sub(17) or rest
  local record, g = queue_record(q.jobs, id), group_read(q, of)
  if not record or record[QUEUE_GROUP] ~= of then queue_wrong(answer, "no record", id)
  elseif kind == "w" and group_place(id, record) ~= member then queue_wrong(answer, "not in its place", id) end
  if kind == "w" and g[GROUP_RANK] == 0 and g[GROUP_BLOCKED] == 0 then queue_wrong(answer, "waits for no turn", id) end
end
