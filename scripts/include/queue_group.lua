-- queue_group: jobs of groups.  They are in one sorted set, whose scores are 0: it is in the order of bytes.
--   "w<group>\0<score><id>"  a ready job, the first of its group in front    "r<group>\0<id>"  a leased one
--   "t<rank><group>"  a group that may have a turn, by priority and turn    "x<us><group>"  one with a window, by its end
-- Numbers have 16 digits.  What else is known of a group is in its record; there is none if it has nothing to say.
-- A group has a turn while it has ready jobs and nothing blocks it: so those that are blocked are in nobody's way.
local GROUP_RANK, GROUP_OVER, GROUP_STARTED, GROUP_BLOCKED = 1, 2, 3, 4 -- 0: no turn, no window; jobs begun in it
local GROUP_CONCURRENCY, GROUP_LIMIT, GROUP_WINDOW = 5, 6, 7 -- of its own; -1: as those of the others
local GROUP_FULL, GROUP_SPENT = 1, 2 -- what blocks it, as a sum: so many are leased; so many began in its window
local GROUP_LEVEL = 4398046511104 -- of a rank: more of them, lower priority

local function group_text(kind, number, rest)
  return kind .. string.format("%016.0f", number) .. rest
end

local function group_read(queue, group)
  local packed = redis.call("HGET", queue.jobs, "g" .. group)
  return packed and cmsgpack.unpack(packed) or {0, 0, 0, 0, -1, -1, -1}
end

-- Where a job that is ready is in the set.
local function group_place(id, record)
  return group_text("w" .. record[QUEUE_GROUP] .. "\0", queue_score(record), id)
end

-- Its first members of a kind.
local function group_first(queue, kind, group, most)
  local from = kind .. group
  return redis.call("ZRANGEBYLEX", queue.groups, "[" .. from .. "\0", "(" .. from .. "\1", "LIMIT", "0", most)
end
