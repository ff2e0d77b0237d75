-- queue_settle: whether groups have turns, and what becomes of their jobs; see include/queue_move.lua.
local function group_write(group, g)
  if g[GROUP_RANK] + g[GROUP_OVER] + g[GROUP_BLOCKED] == 0 and g[GROUP_CONCURRENCY] < 0 and g[GROUP_LIMIT] < 0 then
    redis.call("HDEL", q.jobs, "g" .. group)
  else
    redis.call("HSET", q.jobs, "g" .. group, cmsgpack.pack(g))
  end
end

-- A turn of the priority that its next job, `head`, has; nil: none.  It keeps the one it has.
local function group_turn(group, g, head, last)
  local rank, before = 0, g[GROUP_RANK]
  if head and g[GROUP_BLOCKED] == 0 then
    local score, turn = tonumber(head:sub(#group + 3, #group + 18)), before % GROUP_LEVEL
    if before == 0 or last then turn, q.turned = redis.call("HINCRBY", q.state, "turn", "1"), true end
    rank = score - score % GROUP_LEVEL + turn
  end
  if rank ~= before then
    if before > 0 then redis.call("ZREM", q.groups, group_text("t", before, group)) end
    if rank > 0 then redis.call("ZADD", q.groups, "0", group_text("t", rank, group)) end
    g[GROUP_RANK] = rank
  end
  if before == 0 and rank > 0 and not q.quiet then queue_ring(q.wake) end
end

-- After any change of a group; g: its record, if that was read.
local function group_settle(group, g)
  g = g or group_read(q, group)
  group_turn(group, g, group_first(q, "w", group, "1")[1])
  group_write(group, g)
end

-- New jobs that are ready: scores and members.
local function group_add(list)
  local known = {}
  redis.call("ZADD", q.groups, unpack(list))
  for i = 2, #list, 2 do
    local group = list[i]:match("^w(%Z+)")
    if not known[group] then group_settle(group) end
    known[group] = true
  end
end

-- Limits of its own; -1: as those of the others.  What blocks it by then is for the next pop to find.
local function group_own(group, concurrency, limit, window)
  local g = group_read(q, group)
  g[GROUP_CONCURRENCY], g[GROUP_LIMIT], g[GROUP_WINDOW], g[GROUP_BLOCKED] = concurrency, limit, window, 0
  group_settle(group, g)
end

local function group_ready(id, record)
  redis.call("ZADD", q.groups, "0", group_place(id, record))
  group_settle(record[QUEUE_GROUP])
end

-- A job is leased no more.
local function group_left(id, group)
  redis.call("ZREM", q.groups, "r" .. group .. "\0" .. id)
  local g = group_read(q, group)
  if g[GROUP_BLOCKED] % 2 == GROUP_FULL then g[GROUP_BLOCKED] = g[GROUP_BLOCKED] - GROUP_FULL end
  group_settle(group, g)
end
