-- request: the answer to a request is kept under the id that its caller gave it, so that a repetition changes nothing.
-- <prefix>:{<name>}:<part>+req.<id>   string: the answer, packed (cmsgpack); lives 10 minutes, longer than any repetition
local REQUEST_TTL = "600000"

-- What was answered before, or nil.  `request` is nil when the caller gave no id.
local function request_answered(request)
  local packed = request and redis.call("GET", request)
  return packed and cmsgpack.unpack(packed) or nil
end

-- Keeps an answer that changed something, and returns it.  Its numbers are integers below 2^53, or text.
local function request_keep(request, answer)
  if request then redis.call("SET", request, cmsgpack.pack(answer), "PX", REQUEST_TTL) end
  return answer
end
