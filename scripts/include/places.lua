-- places: a sorted set of <token>:<i>, one for each place that a token has, by the end of its lease in microseconds.
-- A lease is over when its end is now or earlier.
local function places_text(number)
  return string.format("%.0f", number)
end

-- How many are in the set, and how many of them are over.
local function places_count(places, now)
  return redis.call("ZCARD", places), redis.call("ZCOUNT", places, "-inf", places_text(now))
end

-- When the lease of all `count` places of `token` ends; nil when one of them is over or gone.
local function places_end(places, token, count, now)
  local ends
  for i = 1, count do
    local one = tonumber(redis.call("ZSCORE", places, token .. ":" .. i) or 0)
    if one <= now then return nil end
    ends = math.min(ends or one, one)
  end
  return ends
end

-- The end of lease at `rank`, from 0; -1 is the last.
local function places_at(places, rank)
  return tonumber(redis.call("ZRANGE", places, rank, rank, "WITHSCORES")[2])
end
