-- queue_bundles: bundles (include/queue_bundle.lua) to be pushed.  args: of each its base, the lengths, the payloads.

-- Fields of the hash of jobs, how many jobs are in each bundle, and in all; nil if one is not acceptable, or is there.
local function bundle_fields(jobs, args, first, attempts, crashes)
  local fields, asked, counts, total, known, tail = {}, {}, {}, 0, {}, cmsgpack.pack(attempts, crashes)
  for at = first, #args, 3 do
    local n, base, lengths, payloads = #counts, args[at], args[at + 1] or "", args[at + 2]
    local count = #lengths / 2
    if count % 1 ~= 0 or count < 1 or count > BUNDLE_MOST then return nil end
    if #base ~= BUNDLE_BASE or base:find("%X") or known[base] then return nil end
    local _, size = bundle_lengths(lengths, 1, count)
    if not payloads or size ~= #payloads then return nil end
    local field = "b" .. base
    fields[4 * n + 1], fields[4 * n + 2] = field, string.char(count) .. lengths .. tail
    fields[4 * n + 3], fields[4 * n + 4] = "c" .. base, payloads
    asked[2 * n + 1], asked[2 * n + 2] = field, "j" .. base .. "-00"
    counts[n + 1], known[base], total = count, true, total + count
  end
  if total < 1 or total > 500 then return nil end
  for _, found in ipairs(redis.call("HMGET", jobs, unpack(asked))) do
    if found then return nil end
  end
  return fields, counts, total
end

-- As queue_push says it: all are pushed.
local function bundle_answer(args, first, counts)
  local answer = {QUEUE_OK}
  for i, count in ipairs(counts) do
    for k = 0, count - 1 do
      local n = #answer
      answer[n + 1], answer[n + 2] = QUEUE_OK, string.format("%s-%02d", args[first + 3 * i - 3], k)
    end
  end
  return answer
end
