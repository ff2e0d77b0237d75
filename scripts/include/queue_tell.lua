-- queue_tell: what becomes of jobs, for those who want to know: an entry of the stream `events`, of which about `length`
-- are kept.  It is text for scripts that have both; tell is false when nobody wants to know.
length = length and (queue_whole(length, 1, 1000000) or 10000)
local tell = events and function(event, id, epoch)
  redis.call("XADD", events, "MAXLEN", "~", queue_text(length), "*", "event", event, "id", id, "epoch", epoch)
end
