-- queue_again: as include/again.lua, for a queue, whose keys have no lifetime: who asks once more, since no answer came,
-- may wait for replicas, and servers count those that have what the connection itself has written.
local function queue_written_again(state)
  local finished = redis.call("HGET", state, "finished")
  if finished then redis.call("HSET", state, "finished", finished) end
end
