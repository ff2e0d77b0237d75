-- SPDX-License-Identifier: MIT
-- stream_push: new entries, all or none, once for each request.                              writes, O(n)
-- KEYS[1]  <prefix>:{<name>}:stream            stream: {p}, group "workers"; lives for ever, as work does
-- KEYS[2]  <prefix>:{<name>}:stream+req.<id>   string: optional: the answer to this request; lives 10 minutes
-- ARGV     payloads, 1 to 500
-- Returns  {1, id, ... of each}
--- @include "status"
--- @include "request"
local stream, request, payloads = KEYS[1], KEYS[2], ARGV

if #payloads < 1 or #payloads > 500 then return redis.error_reply("ERR stream_push: ARGV is 1 to 500 payloads") end
local answered = request_answered(request)
if answered then return answered end
local answer = {STREAM_OK}
for i, payload in ipairs(payloads) do answer[i + 1] = redis.call("XADD", stream, "*", "p", payload) end
return request_keep(request, answer)
