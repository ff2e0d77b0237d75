-- record_fields: fields and values in `args` from `first` on, `count` of them, and then fields that are deleted.
-- What is set (by name), what is deleted (a list), and where the values end; nil if they are not as they should be.
local function record_fields(args, first, count)
  local last = first - 1 + 2 * count
  local given, drop = {}, {}
  if last > #args then return nil end
  for i = first, #args do
    local is_field = i > last or (i - first) % 2 == 0
    if is_field and args[i]:sub(1, 1) == "_" then return nil end
    if i > last then drop[#drop + 1] = args[i] elseif is_field then given[args[i]] = true end
  end
  return given, drop, last
end

-- Writes them, with the version (text).  `own`: what the record was before, or nil.
local function record_put(record, own, version, args, first, last, drop, now)
  local created = own and own.created or math.floor(now / 1000)
  -- What adds comes first: it is what a server without memory refuses.
  redis.call("HSET", record, "_v", version, "_c", string.format("%.0f", created))
  for i = first, last, 1000 do redis.call("HSET", record, unpack(args, i, math.min(i + 999, last))) end
  for _, field in ipairs(drop) do redis.call("HDEL", record, field) end
end
