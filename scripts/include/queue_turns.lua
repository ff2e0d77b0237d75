-- queue_turns: whose turn it is.  The groups, and the jobs without one as if they were one more, take turns in each
-- priority.

-- Limits of the groups that have none of their own, 0: no limit, in which `window` (ms) is not of interest.
local most_leased, most_begun, window_ms = 0, 0, 1

-- As the caller gave them, in texts; false when they are not acceptable.
local function group_limits(concurrency, limit, window)
  most_leased, most_begun = queue_whole(concurrency, 0, 1000000), queue_whole(limit, 0, 1000000)
  window_ms = queue_whole(window, 1, 31622400000)
  return most_leased and most_begun and window_ms
end

-- Its window is over.
local function group_close(group, g)
  redis.call("ZREM", q.groups, group_text("x", g[GROUP_OVER], group))
  g[GROUP_OVER], g[GROUP_STARTED], g[GROUP_BLOCKED] = 0, 0, g[GROUP_BLOCKED] % GROUP_SPENT
end

-- Closes windows that are over, at most 1,000.  Returns when the next one is.
local function group_windows(now)
  local function first(most, till) return redis.call("ZRANGEBYLEX", q.groups, "[x", till, "LIMIT", "0", most) end
  for _, member in ipairs(first("1000", group_text("(x", now + 1, ""))) do
    local group = member:sub(18)
    local g = group_read(q, group)
    redis.call("ZREM", q.groups, member)
    if g[GROUP_OVER] <= now then group_close(group, g) end
    group_settle(group, g)
  end
  local next = first("1", "(y")[1]
  return next and tonumber(next:sub(2, 17)) or math.huge
end

-- How many of its jobs are leased; one that is not, as a server that evicts keys leaves it, must not block it.
local function group_leased(group, most)
  local from = "r" .. group
  local count = redis.call("ZLEXCOUNT", q.groups, "[" .. from .. "\0", "(" .. from .. "\1")
  for _, member in ipairs(count >= most and group_first(q, "r", group, "1000") or {}) do
    if not redis.call("ZSCORE", q.leased, member:sub(#from + 2)) then
      count = count - redis.call("ZREM", q.groups, member)
    end
  end
  return count
end

-- The next job of a group; nil if its limits are lower than when it got its turn.  A turn that is not its own, as half a
-- script leaves it that a server executes after a crash (docs/queue.md), must not stay in front of all others.
local function group_take(now, turn)
  local group = turn:sub(18)
  local g, heads, id = group_read(q, group), group_first(q, "w", group, "2"), nil
  if group_text("t", g[GROUP_RANK], group) ~= turn then redis.call("ZREM", q.groups, turn) end
  local most, limit, window = g[GROUP_CONCURRENCY], g[GROUP_LIMIT], g[GROUP_WINDOW]
  if most < 0 then most = most_leased end
  if limit < 0 then limit, window = most_begun, window_ms end
  if g[GROUP_OVER] > 0 and g[GROUP_OVER] <= now then group_close(group, g) end
  local leased = most > 0 and group_leased(group, most) or -1
  if heads[1] and leased < most and (limit == 0 or g[GROUP_STARTED] < limit) then
    id, leased = heads[1]:sub(#group + 19), leased + 1
    redis.call("ZREM", q.groups, table.remove(heads, 1))
    redis.call("ZADD", q.groups, "0", "r" .. group .. "\0" .. id)
    if limit > 0 then
      if g[GROUP_OVER] == 0 then
        g[GROUP_OVER] = now + window * 1000
        q.over = math.min(q.over or math.huge, g[GROUP_OVER])
        redis.call("ZADD", q.groups, "0", group_text("x", g[GROUP_OVER], group))
      end
      g[GROUP_STARTED] = g[GROUP_STARTED] + 1
    end
  end
  g[GROUP_BLOCKED] = most > 0 and leased >= most and GROUP_FULL or 0
  if limit > 0 and g[GROUP_STARTED] >= limit then g[GROUP_BLOCKED] = g[GROUP_BLOCKED] + GROUP_SPENT end
  group_turn(group, g, heads[1], true)
  group_write(group, g)
  return id
end

local function group_next()
  return redis.call("ZRANGEBYLEX", q.groups, "[t", "(u", "LIMIT", "0", "1")[1]
end

-- Up to `count` jobs, as ZPOPMIN gives them, but for their groups instead of scores.
local function group_turns(now, count)
  local own = tonumber(redis.call("HGET", q.state, "own") or 0) -- the turn of those without a group
  local popped, before, tries = {}, own, count + 1000
  repeat
    local first, next = tonumber(redis.call("ZRANGE", q.ready, "0", "0", "WITHSCORES")[2]), group_next()
    local rank = first and first - first % GROUP_LEVEL + own
    if rank and not (next and tonumber(next:sub(2, 17)) < rank) then
      local id = q.popped(q, redis.call("ZPOPMIN", q.ready), 1)[1]
      if id then
        popped[#popped + 1], popped[#popped + 2] = id, false
        own = redis.call("HINCRBY", q.state, "turn", "1")
      end
    elseif next then
      local id = group_take(now, next)
      if id then popped[#popped + 1], popped[#popped + 2] = id, next:sub(18) end
    end
    tries = tries - 1
  until not (rank or next) or #popped == 2 * count or tries == 0
  if own ~= before then redis.call("HSET", q.state, "own", queue_text(own)) end
  return popped
end
