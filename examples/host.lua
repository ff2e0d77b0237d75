-- SPDX-License-Identifier: MIT
-- What examples/host.c serves.  Each thread of the host loads this file into a Lua state of its own; the client, and
-- the pool behind it, are shared by all.  It returns
--
--      handle(request) -> status [, body [, headers]]     request: {method, path, headers, body, peer}
--      work()                                             on a thread of its own, until stopping() says true
local client, stopping = ...
local redmoon = require "redmoon"
local json = redmoon.json

local limiter = assert(client:rate_limiter { algorithm = "sliding_log", limit = 100, window = 3600, name = "host" })
local users = assert(client:cache { name = "users", ttl = 60, negative_ttl = 5 })
local mails = assert(client:queue("mails", { lease = 30, max_attempts = 5 }))

-- An error of Redmoon becomes an answer: nothing of it is secret, but nobody outside needs it.
local function unavailable(message)
  io.stderr:write("host.lua: ", message, "\n")
  return 503, "try again later\n"
end

-- Stands for a slow query of a database.
local function load_user(id)
  local _, message = client:incr("host:loads")
  if message then return nil, message end
  local name, why = client:hget("host:users", id)
  if not name then return nil, why end -- absent, and so remembered; or a failure, which is not
  return { id = id, name = name }
end

local function get_user(_, id)
  local user, message = users:get(id, load_user)
  if message then return unavailable(message) end
  if not user then return 404, "no such user\n" end
  return 200, json.encode(user), { ["Content-Type"] = "application/json" }
end

local function put_user(request, id)
  local _, message = client:hset("host:users", id, request.body)
  if message then return unavailable(message) end
  local deleted, why = users:delete(id) -- from here on nobody is shown the old one
  if not deleted and why then return unavailable(why) end
  return 204
end

-- A key that the caller makes up, so that a repeated request is one mail.
local function post_mail(request)
  local id, message = mails:push({ to = request.body }, { request_id = request.headers["idempotency-key"] })
  if not id then return unavailable(message) end
  return 202, id .. "\n"
end

local function get_stats()
  local stats, pool = mails:stats(), client:stats()
  if not stats then return 503, "try again later\n" end
  return 200, json.encode { queued = stats.ready + stats.leased + stats.delayed, connections = pool.total }
end

local routes = {
  { "GET", "^/users/(%w+)$", get_user },
  { "PUT", "^/users/(%w+)$", put_user },
  { "POST", "^/mails$", post_mail },
  { "GET", "^/stats$", get_stats },
}

local function handle(request)
  local limit, message = limiter:allow(request.headers["x-client"] or request.peer)
  if not limit then return unavailable(message) end
  if not limit.allowed then return 429, "too many requests\n", limit:headers() end
  for _, route in ipairs(routes) do
    local found = request.method == route[1] and table.pack(request.path:match(route[2]))
    if found and found[1] then return route[3](request, table.unpack(found)) end
  end
  return 404, "not found\n"
end

-- Sends mails, as it were.  What a handler fails at comes back after a while, on any worker of any process.
local function send(job)
  local count, message = client:hincrby("host:sent", job.payload.to, 1)
  if not count then error(message, 0) end
end

local function report(message) io.stderr:write("host.lua: ", message, "\n") end

local function work() return assert(mails:work(send, { stop = stopping, on_error = report })) end

return { handle = handle, work = work }
