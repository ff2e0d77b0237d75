-- queue_bundles: bundles (include/queue_bundle.lua) to be pushed.

-- How many payloads there are, and all that is kept of them; nil if they are not acceptable.
local function bundle_pack(base, lengths, payloads, attempts, crashes)
  local known, list, more = pcall(cmsgpack.unpack, lengths)
  if not known or more ~= nil or type(list) ~= "table" or #base ~= BUNDLE_BASE or base:find("%X") then return nil end
  local count, size = #list, 0
  for i = 1, count do
    local length = list[i]
    if type(length) ~= "number" or length < 0 or length % 1 ~= 0 then return nil end
    size = size + length
  end
  if count < 1 or count > BUNDLE_MOST or size ~= #payloads then return nil end
  list[count + 1], list[count + 2] = attempts, crashes
  return count, cmsgpack.pack(list) .. payloads
end

-- Fields of the hash of jobs, how many jobs are in each, and in all; nil if one is not acceptable, or is there already.
local function bundle_fields(jobs, args, first, attempts, crashes)
  local fields, asked, counts, total, known = {}, {}, {}, 0, {}
  for at = first, #args, 3 do
    local n, base = #counts, args[at]
    local count, packed = bundle_pack(base, args[at + 1], args[at + 2] or "", attempts, crashes)
    if not count or known[base] then return nil end
    fields[2 * n + 1], fields[2 * n + 2], counts[n + 1], known[base] = "b" .. base, packed, count, true
    asked[2 * n + 1], asked[2 * n + 2], total = "b" .. base, "j" .. base .. "-00", total + count
  end
  if total < 1 or total > 500 then return nil end
  for _, found in ipairs(redis.call("HMGET", jobs, unpack(asked))) do
    if found then return nil end
  end
  return fields, counts, total
end
