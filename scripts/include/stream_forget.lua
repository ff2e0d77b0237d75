-- stream_forget: entries that are done, or dead.
local function stream_forget(stream, released, id, epoch)
  redis.call("XACK", stream, GROUP, id)
  redis.call("XDEL", stream, id)
  if epoch > 1 then redis.call("HDEL", released, id) end -- one that was released has been delivered again
end
