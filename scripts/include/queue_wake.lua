-- queue_wake: the marker that wakes one of the workers who wait for it (BZPOPMIN).  Who took it asks for jobs, and sets
-- it again if there are more.  One of those who wait, the keeper, has promised to ask at `keep` (us; 0: there is none),
-- when the next delayed job is due or a lease is over: so not all of them do.
local QUEUE_LOOK = 1000000 -- us; all who wait ask this often, for the case that one who was woken died

local function queue_ring(wake)
  redis.call("ZADD", wake, "0", "wake")
end

-- Whether somebody has to ask at `due`, and nobody who waits knows it yet.
local function queue_unkept(keep, now, due)
  return due < now + QUEUE_LOOK and not (keep >= now and keep <= due)
end
