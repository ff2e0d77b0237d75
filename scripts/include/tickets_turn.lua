-- tickets_turn: whose turn it is (see tickets).
local TICKETS_AT_ONCE = 1000 -- so many are cleared away in one call

-- Those that ended give up their place; after a clock that was set back none lives longer than one that asks now.
local function tickets_clear(beats, now)
  local ended = redis.call("ZCOUNT", beats, "-inf", string.format("%.0f", now))
  if ended > 0 then redis.call("ZREMRANGEBYRANK", beats, 0, math.min(ended, TICKETS_AT_ONCE) - 1) end
  local latest = string.format("%.0f", now + TICKET_MS * 1000)
  for _, ticket in ipairs(redis.call("ZRANGEBYSCORE", beats, "(" .. latest, "+inf", "LIMIT", 0, TICKETS_AT_ONCE)) do
    redis.call("ZADD", beats, latest, ticket)
  end
end

local function ticket_first(queue)
  return redis.call("ZRANGE", queue, 0, 0)[1]
end

local function ticket_end(beats, ticket)
  return ticket and tonumber(redis.call("ZSCORE", beats, ticket) or 0)
end

-- The ticket whose turn it is, and when it ends; nil when nobody waits.  Those before it that ended are taken out: when
-- they are too many for one call, one that ended is returned, and the next call goes on.
local function tickets_head(queue, beats, now)
  local dead, head = 0, ticket_first(queue)
  local ends = ticket_end(beats, head)
  while head and ends <= now and dead < TICKETS_AT_ONCE do
    dead = dead + 1
    head = redis.call("ZRANGE", queue, dead, dead)[1]
    ends = ticket_end(beats, head)
  end
  if dead > 0 then redis.call("ZREMRANGEBYRANK", queue, 0, dead - 1) end
  return head, ends
end

-- Lets a ticket live on; one that ended, and a new one, gets the last place.  Returns its place, from 1.
local function ticket_keep(queue, beats, ticket, now)
  if ticket_end(beats, ticket) <= now or not redis.call("ZSCORE", queue, ticket) then
    local last = redis.call("ZRANGE", queue, -1, -1, "WITHSCORES")[2]
    redis.call("ZADD", queue, string.format("%.0f", tonumber(last or 0) + 1), ticket)
  end
  redis.call("ZADD", beats, string.format("%.0f", now + TICKET_MS * 1000), ticket)
  redis.call("PEXPIRE", queue, TICKET_MS + 1)
  redis.call("PEXPIRE", beats, TICKET_MS + 1)
  return redis.call("ZRANK", queue, ticket) + 1
end

local function ticket_drop(queue, beats, ticket)
  redis.call("ZREM", queue, ticket)
  redis.call("ZREM", beats, ticket)
end
