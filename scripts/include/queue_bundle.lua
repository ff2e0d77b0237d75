-- queue_bundle: jobs that were pushed together with equal options, and that nobody has touched yet.  Each bundle is
--   "b<base>" in the hash of jobs: a packed list of the lengths of its payloads, max attempts and max crashes; behind it
--   the payloads.   "\0<base>-<count>" among those that are ready, at the place of its first job.
-- Its jobs have the ids "<base>-00" and so on, and the places from that one on.
local BUNDLE_BASE, BUNDLE_ID, BUNDLE_MOST = 20, 23, 50 -- bytes of a base and of an id; jobs in one
local BUNDLE_LEVEL = 4398046511104 -- of a place: more of them, lower priority

-- Whether it is one, of what is ready.
local function bundle_marks(member)
  return member:byte() == 0
end

-- Its base, and how many jobs it has.
local function bundle_name(member)
  return member:sub(2, BUNDLE_BASE + 1), tonumber(member:sub(BUNDLE_BASE + 3))
end

-- What is kept of the bundle; nil: there is none, or what there is makes no sense.
local function bundle_parse(base, value)
  local known, _, list = pcall(cmsgpack.unpack_one, value or "")
  local count, size = known and type(list) == "table" and #list - 2 or 0, 0
  if count < 1 then return nil end
  for i = 1, count + 2 do
    if type(list[i]) ~= "number" then return nil end
    if i <= count then size = size + list[i] end
  end
  if size > #value then return nil end
  return {base = base, value = value, lengths = list, from = #value - size, count = count, attempts = list[count + 1],
    crashes = list[count + 2], member = string.format("\0%s-%02d", base, count)}
end

local function bundle_read(jobs, base)
  return bundle_parse(base, redis.call("HGET", jobs, "b" .. base))
end

-- The bundle that has the job, and which of its jobs it is, from 0; or nil.
local function bundle_find(jobs, id)
  if #id ~= BUNDLE_ID then return nil end
  local base, index = id:match("^(%x+)%-(%d%d)$")
  local bundle = base and bundle_read(jobs, base)
  if bundle and tonumber(index) < bundle.count then return bundle, tonumber(index) end
end

local function bundle_payload(bundle, index)
  local from = bundle.from
  for i = 1, index do from = from + bundle.lengths[i] end
  return bundle.value:sub(from + 1, from + bundle.lengths[index + 1])
end
