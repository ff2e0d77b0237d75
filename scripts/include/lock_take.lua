-- lock_take: what a lock is asked for with, and how it is given.  Needs "again", "fences", "lock", "request", "status".
-- What is wrong with the arguments; nil when nothing is.
local function lock_wrong(lease, max)
  if not lease or lease % 1 ~= 0 or lease < 1 or lease > 86400000 then
    return "ARGV[2] is the lease, an integer from 1 to 86400000 ms"
  end
  if not max or max % 1 ~= 0 or max ~= 0 and (max < lease or max > 31622400000) then
    return "ARGV[4] is the longest hold, an integer, 0 or lease to 31622400000 ms"
  end
end

-- Its owner, the fence, since when, the longest hold, whether there is a hold with this id, and whether somebody waits.
local function lock_look(lock, id)
  return unpack(redis.call("HMGET", lock, "owner", "fence", "since", "max", "h" .. id, "waits"))
end

-- To its owner, once more, or for a repetition: what the owner has already.  The answer, or an error.
local function lock_again(lock, request, token, id, lease, now)
  local _, fence, since, limit, mine, waits = lock_look(lock, id)
  local holds, left = lock_holds(lock, limit, waits), redis.call("PTTL", lock)
  local answer = {LOCK_OK, tonumber(fence), left, holds, request and token, request and id}
  if mine then
    written_again(lock)
    return answer
  end
  if holds >= 1000 then return redis.error_reply("ERR lock: it is held 1000 times already") end
  local wanted = lock_lease(lease, since, limit, now)
  redis.call("HSET", lock, "h" .. id, "1")
  if left < wanted then redis.call("PEXPIRE", lock, string.format("%.0f", wanted)) end
  answer[1], answer[3], answer[4] = LOCK_MORE, math.max(left, wanted), holds + 1
  return request_keep(request, answer)
end

-- To somebody, for nobody holds it.  The answer, or an error.
local function lock_take(lock, last_fence, request, token, id, lease, max, now)
  local next_fence = fence_next(last_fence, now)
  if not next_fence then
    return redis.error_reply("ERR lock: KEYS[2] holds no fence, an integer below 2^53 - 1")
  end
  local since = string.format("%.0f", now)
  fence_keep(last_fence, next_fence)
  redis.call("HSET", lock, "owner", token, "fence", string.format("%.0f", next_fence), "since", since, "h" .. id, "1")
  if max > 0 then redis.call("HSET", lock, "max", string.format("%.0f", max)) end
  redis.call("PEXPIRE", lock, string.format("%.0f", lease))
  return request_keep(request, {LOCK_OK, next_fence, lease, 1, request and token, request and id})
end
