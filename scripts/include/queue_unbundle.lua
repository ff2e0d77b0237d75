-- queue_unbundle: a bundle (include/queue_bundle.lua) comes apart: its jobs are as if they had been pushed one by one.
-- A script pays for every function it begins with: so these are made where there is a bundle.
local function queue_bundles()
--- @include "queue_bundle"
  -- Records and payloads, of a bundle that is ready no more by then; ids and places are appended to `list`.
  local function bundle_spread(q, member, score, list)
    local base, count = bundle_name(member)
    local bundle = bundle_read(q.jobs, base)
    redis.call("HINCRBY", q.state, "bundled", queue_text(1 - count))
    if not bundle then return end
    local seq, from, fields = score % BUNDLE_LEVEL, 0, {}
    local before = "\152" .. cmsgpack.pack(1023 - (score - seq) / BUNDLE_LEVEL) -- a packed list of 8, seq its second
    local behind = cmsgpack.pack(0, 0, bundle.attempts, bundle.crashes, 0, "")
    for i = 1, bundle.count do
      local id, length = string.format("%s-%02d", base, i - 1), bundle.lengths[i]
      fields[4 * i - 3], fields[4 * i - 2] = "j" .. id, before .. cmsgpack.pack(seq + i - 1) .. behind
      fields[4 * i - 1], fields[4 * i] = "p" .. id, bundle.payloads:sub(from + 1, from + length)
      list[#list + 1], list[#list + 2] = id, score + i - 1
      from = from + length
    end
    redis.call("HDEL", q.jobs, "b" .. base, "c" .. base)
    redis.call("HSET", q.jobs, unpack(fields))
  end

  -- Back among those that are ready.
  local function bundle_return(q, list)
    local args = {}
    for i = 1, #list, 2 do args[i], args[i + 1] = queue_text(list[i + 1]), list[i] end
    for i = 1, #args, 900 do redis.call("ZADD", q.ready, unpack(args, i, math.min(i + 899, #args))) end
  end

  -- The bundle that has the job, if one has it, comes apart.
  local function bundle_open(q, id)
    local bundle, list = bundle_find(q.jobs, id), {}
    local score = bundle and redis.call("ZSCORE", q.ready, bundle.member)
    if not score then return end
    redis.call("ZREM", q.ready, bundle.member)
    bundle_spread(q, bundle.member, tonumber(score), list)
    bundle_return(q, list)
  end

  -- What was popped, as ids and places, `count` of them at most: jobs of bundles instead of these.  The others go back.
  local function bundle_popped(q, popped, count)
    local list, back = {}, {}
    for i = 1, #popped, 2 do
      local member, score = popped[i], tonumber(popped[i + 1])
      if not bundle_marks(member) then list[#list + 1], list[#list + 2] = member, score
      elseif #list < 2 * count then bundle_spread(q, member, score, list)
      else back[#back + 1], back[#back + 2] = member, score end
    end
    for i = 2 * count + 1, #list do
      back[#back + 1], list[i] = list[i], nil
    end
    if #back > 0 then bundle_return(q, back) end
    return list
  end

  -- The same, from the set: no more members at a time than are likely to be needed, by what the last ones were.
  local function bundle_take(q, count)
    local list, take = {}, 1
    repeat
      local left = count - #list / 2
      local popped = redis.call("ZPOPMIN", q.ready, queue_text(math.min(take, left)))
      local found = bundle_popped(q, popped, left)
      for i = 1, #found do list[#list + 1] = found[i] end
      take = #found > #popped and 1 or 2 * take
    until #popped == 0 or #list == 2 * count
    return list
  end

  return {open = bundle_open, popped = bundle_popped, take = bundle_take}
end
