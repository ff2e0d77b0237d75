-- session: a record that counts only while the index of its subject names it.
-- index: sorted set of the keyed hashes of ids, each with the time (ms) at which its session ends.
local function session_look(record, index, member, max_age, now)
  if not redis.call("ZSCORE", index, member) then return nil end
  return record_look(record, max_age, now)
end

-- After a write to the record's lifetime: the index says when it ends, and lives longer.
local function session_note(record, index, member, now)
  local left = redis.call("PTTL", record)
  redis.call("ZADD", index, string.format("%.0f", math.floor(now / 1000) + left), member)
  if redis.call("PTTL", index) < left + 1000 then
    redis.call("PEXPIRE", index, string.format("%.0f", left + 1000))
  end
end
