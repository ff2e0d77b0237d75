-- queue_items: jobs to be pushed, and which of them may be.  Written for many of them in one call.
local QUEUE_FIELDS, QUEUE_MOST = 7, 500 -- arguments of a job, and jobs in one call
local QUEUE_BUNDLED = 23 -- bytes of an id that may be of a bundle
local QUEUE_LAST = 4398046511103 -- of the places of a queue, so that a score holds it

-- What jobs of the same options have in common, read from the arguments behind `at`; nil if one is not acceptable.
local function queue_kind(args, at)
  local priority, delay = queue_whole(args[at + 3], 0, 1023), queue_whole(args[at + 4], 0, 315360000000)
  local attempts, crashes = queue_whole(args[at + 5], 1, 1000000), queue_whole(args[at + 6], 1, 1000000)
  local unique, group = args[at + 7], nil
  local cut = unique ~= "" and unique:find("\0", 1, true)
  if cut then unique, group = unique:sub(1, cut - 1), unique:sub(cut + 1) end
  if not (priority and delay and attempts and crashes) or #unique > 256 then return nil end
  if group and (#group < 1 or #group > 128 or group:find("\0", 1, true)) then return nil end
  -- A record is a packed list of 8, or 9: so it begins and so it ends, around seq.
  local before, behind = "\152" .. cmsgpack.pack(priority), cmsgpack.pack(0, 0, attempts, crashes, 0, unique)
  local score, front = (1023 - priority) * 4398046511104, nil
  if group then
    before, behind = "\153" .. cmsgpack.pack(priority), behind .. cmsgpack.pack(group)
    front = "w" .. group .. "\0" -- of its members, see include/queue_group.lua
  end
  return {delay = delay, unique = unique, before = before, behind = behind, score = score, group = group, front = front}
end

-- Ids and kinds of all jobs; nil when an argument is not acceptable.
local function queue_items(args)
  local count, ids, kinds, kind = #args / QUEUE_FIELDS, {}, {}, nil
  if count % 1 ~= 0 or count < 1 or count > QUEUE_MOST then return nil end
  for i = 1, count do
    local at, same = (i - 1) * QUEUE_FIELDS, kind ~= nil
    for option = at + 3, at + QUEUE_FIELDS do same = same and args[option] == args[option - QUEUE_FIELDS] end
    if not same then kind = queue_kind(args, at) end
    ids[i], kinds[i] = args[at + 1], kind
    if not kind or #ids[i] < 1 or #ids[i] > 128 or ids[i]:byte() == 0 then return nil end
  end
  return ids, kinds
end

-- Whether a job has the id.  A result whose time is over is dropped: its id is free again.
local function queue_taken(jobs, done, id, now)
  local ends = redis.call("ZSCORE", done, id)
  if not ends or tonumber(ends) > now then return true end
  redis.call("ZREM", done, id)
  queue_forget(jobs, id)
  return false
end

-- Whether a bundle has a job of this id.
local function queue_bundled(hash, wanted)
--- @include "queue_bundle"
  return bundle_find(hash, wanted) ~= nil
end

-- The answer: state and id of each, QUEUE_OK, QUEUE_TAKEN or QUEUE_HELD, and its own or that of the job that has its key.
-- Also the fields of all records.
local function queue_places(jobs, done, ids, kinds, now)
  local count, fields, at, own = #ids, {}, {}, {}
  for i = 1, count do fields[i] = "j" .. ids[i] end
  for i = 1, count do
    if kinds[i].unique ~= "" then
      at[i] = #fields + 1
      fields[at[i]] = "u" .. kinds[i].unique
    end
  end
  local found, answer = redis.call("HMGET", jobs, unpack(fields)), {QUEUE_OK}
  for i = 1, count do
    local id, state, says = ids[i], QUEUE_OK, ids[i]
    local holder = at[i] and (found[at[i]] or own[fields[at[i]]])
    if own[fields[i]] or found[i] and queue_taken(jobs, done, id, now) then state = QUEUE_TAKEN
    elseif #id == QUEUE_BUNDLED and queue_bundled(jobs, id) then state = QUEUE_TAKEN
    elseif holder then state, says = QUEUE_HELD, holder
    else
      own[fields[i]] = id
      if at[i] then own[fields[at[i]]] = id end
    end
    answer[2 * i], answer[2 * i + 1] = state, says
  end
  return answer, fields
end
