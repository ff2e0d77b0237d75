-- record_life: what a write does to a record's version and lifetime.
-- A version rises, and is no lower than the clock: so a record that was deleted and made again does not get one that
-- a caller may still know from before.
local function record_next_version(own, now)
  return string.format("%.0f", own and math.max(own.version + 1, now) or now)
end

-- The longest that it may live from now, in ms: `ttl` (0: no lifetime of its own), but not over its age.  nil: for ever.
local function record_life(ttl, left)
  if ttl == 0 then return left end
  return left and math.min(ttl, left) or ttl
end

-- Sets the lifetime after a write.  keep: one that it has is only cut by its age.  `own`: what it was before, or nil.
local function record_live(record, own, ttl, keep, max_age)
  local left = own and own.left or max_age > 0 and max_age or nil
  local life = record_life(ttl, left)
  local has = life and own and keep and redis.call("PTTL", record) or -1
  if has >= 0 then life = math.min(has, left or has) end
  if life and life ~= has then redis.call("PEXPIRE", record, string.format("%.0f", life)) end
end
