-- queue_move: jobs that become ready, or are leased no more; and whether their groups have turns.
-- A script pays for every function it begins with: so those of groups are made where there is a group.
local function queue_groups(q)
  if q.tools then return q.tools end
--- @include "queue_group"
--- @include "queue_settle"
--- @include "queue_turns"
  q.tools = {place = group_place, settle = group_settle, add = group_add, own = group_own, ready = group_ready,
    left = group_left, limits = group_limits, windows = group_windows, turns = group_turns, next = group_next}
  return q.tools
end

-- A job is ready: its record has a new place, or its old one.
local function queue_ready(q, id, record)
  if record[QUEUE_GROUP] then queue_groups(q).ready(id, record)
  else redis.call("ZADD", q.ready, queue_score(record), id) end
end
