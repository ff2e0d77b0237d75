-- record: a hash of the caller's fields and two of its own: _v, its version, and _c, when it was created (ms).
local RECORD_MAX = 9007199254740991 -- no version or time reaches it

local function record_whole(text)
  local number = tonumber(text or "")
  return number and number % 1 == 0 and number >= 0 and number < RECORD_MAX and number or nil
end

-- version, created, and left: ms until its greatest age (nil: it has none; `max_age` is 0).  nil when there is no
-- record, or when it is too old: then it counts as gone, whatever its key's lifetime.  Second result: an error reply.
local function record_look(record, max_age, now)
  local stored = redis.call("HMGET", record, "_v", "_c")
  local version, created = record_whole(stored[1]), record_whole(stored[2])
  if not (version and created) then
    if redis.call("EXISTS", record) == 0 then return nil end
    return nil, redis.error_reply("ERR KEYS[1] is a hash without a version: no record")
  end
  if max_age == 0 then return {version = version, created = created} end
  -- A clock that was set back does not add to the age that is left.
  local left = created + max_age - math.max(math.floor(now / 1000), created)
  if left <= 0 then return nil end
  return {version = version, created = created, left = left}
end
