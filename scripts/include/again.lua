-- again: an answer that repeats what an earlier call wrote is followed by WAIT as that one was, and servers count the
-- replicas that have what the connection itself has written.  So the key's lifetime is written again, as it is.
local function written_again(key)
  local left = redis.call("PTTL", key)
  if left > 0 then redis.call("PEXPIRE", key, string.format("%.0f", left)) end
end
