-- queue_bundle: jobs that were pushed together with equal options, and that nobody has touched yet.  Each bundle is
--   "b<base>" in the hash of jobs: how many they are, a byte; the lengths of their payloads, two bytes each, the high one
--   first; and packed max attempts and max crashes.   "c<base>" there: the payloads, one behind the other.
--   "\0<base>-<count>" among those that are ready, at the place of its first job.
-- Its jobs have the ids "<base>-00" and so on, and the places from that one on.
-- A server's Lua hashes each string that it makes, byte by byte: so payloads are not touched before they are needed.
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

-- The lengths, and their sum.
local function bundle_lengths(bytes, from, count)
  local list, size, two = {}, 0, {bytes:byte(from, from + 2 * count - 1)}
  for i = 1, count do
    list[i] = two[2 * i - 1] * 256 + two[2 * i]
    size = size + list[i]
  end
  return list, size
end

-- What is kept of the bundle; nil: there is none, or what there is makes no sense.
local function bundle_read(jobs, base)
  local head, payloads = unpack(redis.call("HMGET", jobs, "b" .. base, "c" .. base))
  local count = head and payloads and head:byte() or 0
  if count < 1 or #head < 2 * count + 3 then return nil end
  local lengths, size = bundle_lengths(head, 2, count)
  local known, attempts, crashes = pcall(cmsgpack.unpack, head:sub(2 * count + 2))
  if not known or size ~= #payloads or type(attempts) ~= "number" or type(crashes) ~= "number" then return nil end
  return {base = base, payloads = payloads, lengths = lengths, count = count, attempts = attempts, crashes = crashes,
    member = string.format("\0%s-%02d", base, count)}
end

-- The bundle that has the job, and which of its jobs it is, from 0; or nil.
local function bundle_find(jobs, id)
  if #id ~= BUNDLE_ID then return nil end
  local base, index = id:match("^(%x+)%-(%d%d)$")
  local bundle = base and bundle_read(jobs, base)
  if bundle and tonumber(index) < bundle.count then return bundle, tonumber(index) end
end

local function bundle_payload(bundle, index)
  local from = 0
  for i = 1, index do from = from + bundle.lengths[i] end
  return bundle.payloads:sub(from + 1, from + bundle.lengths[index + 1])
end
