-- SPDX-License-Identifier: MIT
-- What the processes of user_service.lua share: the client with its patterns, the database, the news of changes.
local redmoon = require "redmoon"
local M = {}

local PREFIX = "user-service"
local CHANGES, THE_END = PREFIX .. ":changes", PREFIX .. ":end"

-- The client and its patterns.  One place says how each is set up, so that all processes agree.
function M.open(url)
  local client = assert(redmoon.connect(url, { key_prefix = PREFIX, pool_size = 4 }))
  return setmetatable({
    client = client,
    users = assert(client:cache { name = "user", ttl = 2, stale_ttl = 10, lease = 5 }),
    sessions = assert(client:sessions("web", {
      secret = "an example: take 32 random bytes", fields = { user_id = "string" }, ttl = 600, sliding = true,
    })),
    tokens = assert(client:blocklist("access", { issuer = "user-service" })),
    limiter = assert(client:rate_limiter { algorithm = "gcra", limit = 50, window = 1, name = "requests" }),
    views = assert(client:counter("views", { calendar = "day" })),
    mails = assert(client:queue("mails", { lease = 10, max_attempts = 3, backoff = { min = 0.05, max = 0.2 } })),
  }, { __close = function() client:close() end })
end

-- The database: one file a user, replaced as a whole.
function M.database(folder)
  local function path(id) return folder .. "/" .. id end
  local function read(id)
    local file <close> = assert(io.open(path(id)))
    return assert(redmoon.json.decode(file:read "a"))
  end
  local function write(user)
    local fresh = path(user.id) .. "." .. redmoon.new_jti()
    local file <close> = assert(io.open(fresh, "w"))
    assert(file:write(assert(redmoon.json.encode(user))))
    assert(file:close())
    assert(os.rename(fresh, path(user.id)))
  end
  return { read = read, write = write }
end

-- News of changed users: a stream that every process reads from where it has come to.
local PAGE = 1000
function M.changes(client)
  local function newest() return assert(client:xrevrange(CHANGES, "+", "-", "COUNT", 1))[1] end
  local last = (newest() or { "0-0" })[1]

  local function tell(id, version)
    assert(client:pipeline(function(p)
      p:xadd(CHANGES, "MAXLEN", "~", 10 * PAGE, "*", "id", id, "version", version)
      p:expire(CHANGES, 3600)
    end))
  end

  -- Calls fn(id, version) for each.  False: there were so many that some may be gone; it goes on with the newest.
  local function read(fn)
    local streams = client:xread("COUNT", PAGE, "STREAMS", CHANGES, last)
    local entries = streams and streams[CHANGES] or {}
    for _, entry in ipairs(entries) do
      local fields = entry[2]
      fn(fields[2], math.tointeger(fields[4]))
      last = entry[1]
    end
    if #entries < PAGE then return true end
    last = newest()[1]
    return false
  end
  return { tell = tell, read = read }
end

-- The worker is told that no more mails will come.
function M.tell_the_end(client) assert(client:set(THE_END, 1, { ttl = 600 })) end
function M.is_the_end(client) return client:get(THE_END) ~= nil end

function M.clean(client)
  for key in client:scan { match = PREFIX .. ":*", count = 1000 } do assert(client:unlink(key)) end
end

function M.new_folder()
  local pipe <close> = assert(io.popen "mktemp -d")
  return pipe:read "l"
end

function M.remove_folder(folder) os.execute("rm -rf '" .. folder .. "'") end

return M
