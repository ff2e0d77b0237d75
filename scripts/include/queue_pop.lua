-- queue_pop: hands out jobs.  Epochs rise over all leases of the queue, and are no lower than the clock: so those from
-- before a loss of its keys are old ones, too.
--- @include "queue_unbundle"
local function queue_hand_out(q, now, popped, epoch, lease, answer)
  local fields, puts, leases, tell, over = {}, {}, {}, q.tell, queue_text(now + lease * 1000)
  for i = 1, #popped, 2 do
    fields[i], fields[i + 1] = "j" .. popped[i], "p" .. popped[i]
  end
  local found = redis.call("HMGET", q.jobs, unpack(fields))
  for i = 1, #popped, 2 do
    local record = found[i] and cmsgpack.unpack(found[i])
    if record then
      local at, group = #answer, record[QUEUE_GROUP]
      record[QUEUE_EPOCH] = epoch
      answer[at + 1] = group and popped[i] .. "\0" .. group or popped[i]
      answer[at + 2], answer[at + 4] = epoch, found[i + 1] or ""
      answer[at + 3] = record[QUEUE_FAILURES] + record[QUEUE_CRASHES] + 1
      puts[#puts + 1], puts[#puts + 2] = fields[i], cmsgpack.pack(record)
      leases[#leases + 1], leases[#leases + 2] = over, popped[i]
      if tell then tell("active", popped[i], queue_text(epoch)) end
      epoch = epoch + 1
    elseif q.turned and popped[i + 1] then
      queue_groups(q).left(popped[i], popped[i + 1])
    end
  end
  if #puts > 0 then
    redis.call("HSET", q.jobs, unpack(puts))
    redis.call("ZADD", q.leased, unpack(leases))
  end
  return epoch - 1
end

-- Up to `count` jobs (<= 500).  waits: the caller is going to wait if there is none; keeps: it is the keeper.
-- Appends to `answer`: us that it may wait at most, 1 if it is the keeper now; id, epoch, attempt, payload of each job;
-- behind the id of one of a group follow a NUL byte and the group.
local function queue_pop(q, now, count, lease, waits, keeps, answer)
  local seq, epoch, paused, keep, turn, bundled =
    unpack(redis.call("HMGET", q.state, "seq", "epoch", "paused", "keep", "turn", "bundled"))
  q.turned, q.quiet = turn, true -- whether there ever was a group with a turn; who is to be woken is seen to below
  seq, epoch, keep = tonumber(seq or 0), tonumber(epoch or 0), tonumber(keep or 0)
  if keeps then keep = 0 end
  local head, known, last, delayed = #answer, keep, queue_promote(q, now, seq)
  local due = math.min(delayed, queue_reap(q, now), turn and queue_groups(q).windows(now) or math.huge)
  answer[head + 1], answer[head + 2] = QUEUE_LOOK, 0
  local popped, after = {}, epoch
  if q.turned and not paused then
    q.popped = queue_bundles().popped
    popped = queue_groups(q).turns(now, count)
  elseif not paused and count > 1 and tonumber(bundled or 0) > 0 then
    popped = queue_bundles().take(q, count)
  elseif not paused then
    popped = redis.call("ZPOPMIN", q.ready, queue_text(count))
    for i = 1, #popped, 2 do
      if popped[i]:byte() == 0 then popped = queue_bundles().popped(q, popped, count) break end
    end
  end
  if #popped > 0 then after = queue_hand_out(q, now, popped, math.max(epoch + 1, now), lease, answer) end
  local found = #answer > head + 2
  due = math.min(due, q.over or math.huge) -- of a window that was opened
  if found then due = math.min(due, now + lease * 1000) else queue_expire(q, now) end
  if queue_unkept(keep, now, due) then
    if not found then answer[head + 1] = math.max(due - now, 0) end
    if found or not waits then queue_ring(q.wake) else answer[head + 2], keep = 1, due end
  end
  local more = not paused and (redis.call("EXISTS", q.ready) == 1 or q.turned and queue_groups(q).next())
  if more then queue_ring(q.wake) end
  if found or last ~= seq or keep ~= known or keeps then
    redis.call("HSET", q.state, "seq", queue_text(last), "epoch", queue_text(after), "keep", queue_text(keep))
  end
  return answer
end
