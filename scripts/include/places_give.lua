-- places_give: gives places (see places), or prolongs them; the key lives as long as the longest lease.
local function places_give(places, token, count, ends, now)
  for i = 1, count do redis.call("ZADD", places, places_text(ends), token .. ":" .. i) end
  -- One ms more: the server counts expiry from before it answered TIME, in whole ms.
  redis.call("PEXPIRE", places, places_text(math.ceil((places_at(places, -1) - now) / 1000) + 1))
end
