-- SPDX-License-Identifier: MIT
-- What tests/examples/test_host.c lets the host serve.
local client, stopping = ...

local handlers = {}

handlers["/fails"] = function() error("on purpose") end
handlers["/wrong"] = function() return "no status" end
handlers["/splits"] = function() return 200, "", { Location = "x\r\nSet-Cookie: stolen" } end
handlers["/echo"] = function(request) return 200, request.body, { ["X-Method"] = request.method } end

-- Waits in Redis until somebody lets it go on.
handlers["/waits"] = function()
  assert(client:incr("waiting"))
  local got, message, code = client:blpop("gate", 30)
  if not got then return 503, code or message end
  return 200, got[2]
end

local function handle(request) return handlers[request.path](request) end

-- Waits for a job, too, and does it though the host is stopping meanwhile.
local function work()
  while not stopping() do
    local job = client:blpop("jobs", 0.1)
    if job then
      client:incr("working")
      local got = client:blpop("gate", 30)
      if got then client:incr("done") end
    end
  end
end

return { handle = handle, work = work }
