-- topic_cut: what is kept no longer.
-- Number and time of the first message that was published after `limit` (ms); the last one, `seq`, was.
local function topic_young(log, seq, limit)
  local low, high = topic_entry(log, 1), seq
  while low < high do
    local at, ms = topic_entry(log, math.floor((low + high) / 2))
    if ms > limit then high = math.floor((low + high) / 2) else low = at + 1 end
  end
  return topic_entry(log, low)
end

-- The number that the slowest reader has acknowledged; nil: there is no reader.
local function topic_slowest(readers, epoch)
  local slowest
  for _, text in ipairs(redis.call("HVALS", readers)) do
    local cursor = topic_cursor(text)
    slowest = math.min(slowest or 9007199254740991, cursor and cursor.epoch == epoch and cursor.seq or 0)
  end
  return slowest
end
