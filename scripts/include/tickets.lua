-- tickets: who waits for a lock, in turn.  Two sorted sets of the same tickets: `queue` by turn, `beats` by when each
-- ends (us of the server's clock) unless its waiter asks again.  Both keys live until the last one ends, or a ms more.
local TICKET_MS = 5000 -- five times the longest pause between two asks (core/src/patterns/lock_acquire.c)

-- Microseconds until the last ticket ends; 0 when there is none.  A later end is of before the clock was set back.
local function tickets_left(beats, now)
  if redis.call("EXISTS", beats) == 0 then return 0 end -- mostly so, and cheaper than to look for the last
  local left = tonumber(redis.call("ZRANGE", beats, -1, -1, "WITHSCORES")[2] or 0) - now
  return left <= TICKET_MS * 1000 and math.max(left, 0) or 0
end
