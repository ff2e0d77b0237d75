-- stream_bury: entries that are not run any more go to the dead.
-- How often an entry was run, with this delivery: what was released does not count.
local function stream_attempt(released, id, epoch)
  if epoch == 1 then return 1 end
  return epoch - tonumber(redis.call("HGET", released, id) or 0)
end

-- What its producer gave: field p, or the first one of a producer of another kind.
local function stream_payload(fields)
  for i = 1, #fields, 2 do
    if fields[i] == "p" then return fields[i + 1] end
  end
  return fields[2]
end

-- Fails before anything is written, if one of them is of another type.
local function stream_keys(dead, released)
  redis.call("XLEN", dead)
  redis.call("HLEN", released)
end

local function stream_bury(stream, dead, released, id, epoch, attempts, payload, why)
  redis.call("XADD", dead, "*", "p", payload, "id", id, "attempts", stream_text(attempts), "epoch", stream_text(epoch),
    "error", why)
  stream_forget(stream, released, id, epoch)
end
