-- SPDX-License-Identifier: MIT
-- A small user service, as a real program would be: web processes and a mail worker that share one Redis.
--
--     lua5.4 examples/user_service.lua [seconds]                          on a private server
--     REDIS_URL=redis://... lua5.4 examples/user_service.lua [seconds]    on yours; keys begin with "user-service:"
--
-- Users live in a slow database (here: a folder of files). Web processes read them through a cache, keep logins as
-- sessions, limit each user, count views, revoke tokens at logout, and give mails to a queue. At the end this program
-- looks whether all of it was kept: it exits with status 1 if anything was lost or stale.

local redmoon = require "redmoon"
local service = dofile((arg[0]:match "^(.*)/" or ".") .. "/user_service_parts.lua")

local USERS, WEB_PROCESSES = 200, 2

-- A web process -------------------------------------------------------------------------------------

-- Serves made-up requests for `seconds`, then prints what it saw as one line of JSON.
local function web(url, folder, seconds, seed)
  math.randomseed(seed)
  local parts <close> = service.open(url)
  local database = service.database(folder)
  local told = service.changes(parts.client)
  local saw = { requests = 0, loads = 0, near = 0, limited = 0, logins = 0, logouts = 0, changes = 0, mails = 0,
    stale = 0, revoked_accepted = 0 }
  local logins = {} -- {session=, jti=, user=}
  local near, known = {}, {} -- users that this process remembers; the lowest version that it may still show

  local function load_user(id)
    saw.loads = saw.loads + 1
    return database.read(id)
  end

  local function mail(user, subject)
    assert(parts.mails:push { to = user.mail, user = user.id, subject = subject })
    saw.mails = saw.mails + 1
  end

  local function get_user(id)
    if near[id] then saw.near = saw.near + 1 end
    local user = near[id] or assert(parts.users:get(id, load_user))
    if user.version < (known[id] or 0) then saw.stale = saw.stale + 1 end
    near[id] = user
    return user
  end

  local function login()
    local id = tostring(math.min(math.random(USERS), math.random(USERS)))
    local session = assert(parts.sessions:create("user:" .. id, { user_id = id }))
    logins[#logins + 1] = { session = session, jti = redmoon.new_jti(), user = id }
    mail(get_user(id), "a new login")
    saw.logins = saw.logins + 1
  end

  -- Who is it?  nil: nobody who may come in.
  local function authenticate(login_)
    if assert(parts.tokens:check { jti = login_.jti }).revoked then return nil end
    local session = parts.sessions:load(login_.session)
    return session and session.user_id
  end

  local function view(login_)
    local id = assert(authenticate(login_), "a login that nobody ended is not known")
    if not assert(parts.limiter:allow("user:" .. id)).allowed then
      saw.limited = saw.limited + 1
      return
    end
    get_user(id)
    assert(parts.views:increment("user:" .. id))
  end

  -- The database first, then the cache, then the other processes.
  local function change(login_)
    local id = login_.user
    local user = assert(parts.client:with_lock("user:" .. id, { ttl = 5, wait = 5 }, function()
      local changed = database.read(id)
      changed.version = changed.version + 1
      changed.mail = ("user%s+%d@example.org"):format(id, changed.version)
      database.write(changed)
      assert(parts.users:delete(id))
      told.tell(id, changed.version)
      return changed
    end))
    near[id], known[id] = nil, user.version
    mail(user, "your address was changed")
    saw.changes = saw.changes + 1
  end

  local function logout(index)
    local ended = table.remove(logins, index)
    assert(parts.tokens:revoke { jti = ended.jti, exp = os.time() + 3600 })
    assert(parts.sessions:revoke(ended.session))
    if authenticate(ended) then saw.revoked_accepted = saw.revoked_accepted + 1 end
    saw.logouts = saw.logouts + 1
  end

  local deadline = os.time() + seconds
  while os.time() < deadline do
    if not told.read(function(id, version)
      near[id] = nil
      known[id] = math.max(known[id] or 0, version)
    end) then
      near = {} -- too far behind to know what has changed
    end
    local dice, index = math.random(100), #logins > 0 and math.random(#logins)
    if not index or dice <= 3 then
      login()
    elseif dice <= 5 then
      logout(index)
    elseif dice <= 15 then
      change(logins[index])
    else
      view(logins[index])
    end
    saw.requests = saw.requests + 1
  end
  print(redmoon.json.encode(saw))
end

-- The program ---------------------------------------------------------------------------------------

local function quote(word) return "'" .. tostring(word):gsub("'", "'\\''") .. "'" end

local function spawn(...)
  local words = { "exec", quote(arg[-1]) }
  for _, word in ipairs { ... } do words[#words + 1] = quote(word) end
  return assert(io.popen(table.concat(words, " ")))
end

-- What a child printed -> table
local function result_of(child)
  local text = child:read "a"
  assert(child:close(), "a process of the service failed")
  return assert(redmoon.json.decode(text))
end

local function line(what, value) print(("  %-58s %s"):format(what, value)) end

local failures = 0
local function check(what, ok, value)
  if not ok then failures = failures + 1 end
  line(what, ("%s%s"):format(value ~= nil and value .. "  " or "", ok and "ok" or "WRONG"))
end

local function report(parts, saw, worker, seconds)
  print(("\n%d web processes and a mail worker, %d seconds"):format(WEB_PROCESSES, seconds))
  line("requests", ("%d, %d a second"):format(saw.requests, saw.requests // seconds))
  line("logins, logouts, changed addresses", ("%d, %d, %d"):format(saw.logins, saw.logouts, saw.changes))
  line("users read from the process's own memory", saw.near)
  line("users loaded from the database", saw.loads)
  line("requests over the limit of their user", saw.limited)
  check("users shown that were known to have changed", saw.stale == 0, saw.stale)
  check("revoked tokens accepted", saw.revoked_accepted == 0, saw.revoked_accepted)

  local stats = assert(parts.mails:stats())
  print "\nThe mail queue"
  line("mails given to it", saw.mails)
  line("sent; tries that failed; dead letters", ("%d; %d; %d"):format(worker.sent, worker.failed, stats.dead))
  check("none was lost: sent + dead letters", worker.sent + stats.dead == saw.mails, worker.sent + stats.dead)
  check("sent twice", worker.twice == 0, worker.twice)
  check("jobs that are not in exactly one place", #assert(parts.mails:check()).wrong == 0, 0)

  print "\nWhat it left on the server, as the audit sees it"
  print(("  %-42s %6s %12s %10s"):format("prefix", "keys", "without TTL", "bytes"))
  local audit = assert(parts.client:audit { match = "user-service:*", depth = 2, sample = 1 })
  for i, row in ipairs(audit.prefixes) do
    if i > 12 then break end
    print(("  %-42s %6d %12d %10.0f"):format(row.prefix, row.keys, row.no_ttl, row.bytes))
  end
  for _, warning in ipairs(audit.warnings) do print("  warning: " .. warning.message) end
end

local function main(seconds)
  local folder = service.new_folder()
  local server = not os.getenv "REDIS_URL" and assert(redmoon.embedded()) or nil
  print("A user service at work" .. (server and ", on a private server" or ""))
  local url = server and server.url or os.getenv "REDIS_URL"
  local parts <close> = service.open(url)
  service.clean(parts.client)
  local database = service.database(folder)
  for id = 1, USERS do
    database.write { id = tostring(id), version = 1, mail = ("user%d@example.org"):format(id) }
  end
  local worker = spawn(arg[0]:gsub("user_service%.lua$", "user_service_worker.lua"), url)
  local webs, saw = {}, {}
  for i = 1, WEB_PROCESSES do webs[i] = spawn(arg[0], "web", url, folder, seconds, i) end
  for _, child in ipairs(webs) do
    for name, count in pairs(result_of(child)) do saw[name] = (saw[name] or 0) + count end
  end
  service.tell_the_end(parts.client)
  report(parts, saw, result_of(worker), seconds)
  service.clean(parts.client)
  service.remove_folder(folder)
  if server then server:close() end
  print(failures == 0 and "\nNothing was lost, nothing was stale." or ("\n%d checks failed."):format(failures))
  return failures == 0
end

if arg[1] == "web" then
  web(arg[2], arg[3], tonumber(arg[4]), tonumber(arg[5]))
else
  os.exit(main(math.tointeger(tonumber(arg[1] or "3")) or error "usage: user_service.lua [seconds]"), true)
end
