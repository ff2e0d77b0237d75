-- SPDX-License-Identifier: MIT
-- A guided tour of Redmoon in a few seconds.
--
--     tools/demo                          on a private server that ends with the tour
--     REDIS_URL=redis://... tools/demo    on yours: keys begin with "redmoon-tour:" and are removed

local redmoon = require "redmoon"

local keep_plain = os.getenv "NO_COLOR" or os.getenv "TERM" == "dumb"
local coloured = os.getenv "FORCE_COLOR" or (not keep_plain and os.execute "test -t 1")

local function paint(code, text)
  return coloured and ("\27[%sm%s\27[0m"):format(code, text) or text
end

local function title(text)
  print("\n" .. paint("1;31", "* ") .. paint("1", text))
end

local function show(what, value)
  print(("  %-46s %s"):format(what, paint("36", tostring(value))))
end

local function good(text) print("  " .. paint("32", text)) end
local function bad(text) print("  " .. paint("33", text)) end

local prefix = "redmoon-tour:"
local function key(name) return prefix .. name end

-- Where the tour takes place ------------------------------------------------------------------------

local function open()
  local options = { key_prefix = "redmoon-tour", client_name = "redmoon-tour" }
  if os.getenv "REDIS_URL" then return assert(redmoon.connect(options)) end
  local server = assert(redmoon.embedded())
  return assert(server:connect(options)), server
end

local function clean(client)
  for name in client:scan { match = prefix .. "*" } do assert(client:del(name)) end
end

local client, server = open()
clean(client)

print(paint("1;31", "Redmoon " .. redmoon.version) .. ", a guided tour")
print(server and "A private server was started for it; it ends with the tour." or "On the server of $REDIS_URL.")
show("connected to", client)

-- Values --------------------------------------------------------------------------------------------

title("Values, and values that end")
assert(client:set(key "greeting", "hello", { ttl = 60 }))
show("a value, set for 60 seconds", client:get(key "greeting"))
show("seconds it still has", client:ttl(key "greeting"))
show("a key that does not exist", client:get(key "nothing"))
show("set only if absent, but it is there", client:set(key "greeting", "bye", { nx = true }))
show("64-bit integers are exact", client:incrby(key "big", math.maxinteger))

-- Errors --------------------------------------------------------------------------------------------

title("An error says what happened, and whether the command was executed")
local _, message, code, detail = client:lpush(key "greeting", "x")
show("message", message)
show("code, outcome", code .. ", " .. detail.outcome)

-- Pipelines -----------------------------------------------------------------------------------------

title("A pipeline: a thousand commands, one round trip")
local replies = assert(client:pipeline(function(p)
  for i = 1, 999 do p:set(key("item:" .. i), i, { ttl = 60 }) end
  p:get(key "item:500")
end))
show("replies", replies.n)
show("the last one", replies[replies.n])

-- Transactions --------------------------------------------------------------------------------------

title("A transaction: two people withdraw at once, nobody overdraws")
assert(client:set(key "balance", 100))
local runs = 0
local done = assert(client:transaction(key "balance", function(tx)
  runs = runs + 1
  local balance = tonumber(tx:get(key "balance"))
  if runs == 1 then assert(client:decrby(key "balance", 30)) end -- somebody else, just now
  if balance < 60 then return false end
  tx:multi()
  tx:decrby(key "balance", 60)
end))
show("the body was run", runs .. " times, because the first balance was stale")
show("balance: 100 - 30 - 60", done[1])

-- Rate limits ---------------------------------------------------------------------------------------

title("A rate limit that bites: 3 in 10 seconds")
local limiter = assert(client:rate_limiter { algorithm = "sliding_log", limit = 3, window = 10, name = "login" })
for attempt = 1, 4 do
  local result = assert(limiter:allow "user:42")
  local text = ("request %d: %s, %d left"):format(attempt, result.allowed and "allowed" or "refused", result.remaining)
  if result.allowed then
    good(text)
  else
    bad(("%s; again in %.1f s"):format(text, result.retry_after))
    show("header for the client", "Retry-After: " .. result:headers()["Retry-After"])
  end
end

-- Counters ------------------------------------------------------------------------------------------

title("A quota of 10 in a calendar day, exact to 64 bits")
local quota = assert(client:counter("quota", { calendar = "day", min = 0, max = 10 }))
for _, units in ipairs { 7, 5 } do
  local result = assert(quota:increment("tenant:7", units))
  local text = ("%d units: %d counted, %d used"):format(units, result.applied, result.value)
  if result.applied == units then good(text) else bad(text) end
end
local sent_twice = { request_id = "order-1001" }
quota:increment("tenant:7", 2, sent_twice)
show("a request made twice counts once", assert(quota:increment("tenant:7", 2, sent_twice)).value)

-- Locks ---------------------------------------------------------------------------------------------

title("A lock that two clients want")
local rival = client:with { timeout = 2 }
do
  local lock <close> = assert(client:lock("report", { ttl = 5 }))
  good(("the first has it, fence %d, %.1f s left"):format(lock.fence, lock:remaining()))
  local _, why, refusal = rival:lock("report", { ttl = 5 })
  bad(("the second is told %s: %s"):format(refusal, why))
end
do
  local lock <close> = assert(rival:lock("report", { ttl = 5 }))
  good(("released: now the second has it, with a higher fence, %d"):format(lock.fence))
end
do
  local dead = assert(client:lock("report", { ttl = 0.3 })) -- its holder stops here
  local lock <close> = assert(rival:lock("report", { ttl = 5, wait = 2, renew = true }))
  good(("a dead holder, fence %d: the second waited for its lease to end"):format(dead.fence))
  show("the first holds it", dead:held())
  show("the second holds it, renewed in the background", lock:held())
end

-- Semaphores ----------------------------------------------------------------------------------------

title("A semaphore: two downloads at a time")
local downloads = assert(client:semaphore("downloads", { permits = 2, ttl = 5 }))
do
  local first <close> = assert(downloads:acquire())
  local second = assert(downloads:acquire())
  good(("two have a permit each, %d in use"):format(downloads:stats().in_use))
  local _, why, refusal = downloads:acquire()
  bad(("the third is told %s: %s"):format(refusal, why))
  assert(second:release())
  show("one is given back; permits in use", downloads:stats().in_use)
  show("the other is held until its scope ends", first:held())
end
show("permits in use after the scope", downloads:stats().in_use)

-- Read-write locks ----------------------------------------------------------------------------------

title("A read-write lock: many readers, or one writer")
local editor, visitor = assert(client:rwlock("page", { ttl = 5 })), assert(rival:rwlock("page", { ttl = 5 }))
do
  local mine <close> = assert(editor:read())
  local yours <close> = assert(visitor:read())
  good("two read at once: " .. tostring(mine:held() and yours:held()))
  bad("meanwhile nobody may write: " .. select(3, visitor:write()))
end
do
  local writing <close> = assert(visitor:write())
  good("when they have left, one writes, with fence " .. writing.fence)
  show("what it writes to lets its fence pass", assert(client:fence_guard("page", writing.fence)))
  show("and refuses an older one", client:fence_guard("page", writing.fence - 1))
end

-- Records -------------------------------------------------------------------------------------------

title("Records: hashes with types, and no update that gets lost")
local people = assert(client:records("person", {
  ttl = 60, fields = { name = "string", visits = "integer", vip = "boolean" },
}))
local version = assert(people:save("ann", { name = "Ann", visits = 1, vip = false }))
show("visits, counted exactly", assert(people:increment("ann", "visits")))
local _, _, conflict = people:update("ann", { vip = true }, { version = version })
bad("an update of what was read before that: " .. conflict)
local ann, newer = assert(people:load("ann"))
assert(people:update("ann", { vip = not ann.vip }, { version = newer }))
good(("read again and updated: %s, %d visits, vip %s"):format(ann.name, ann.visits, people:load("ann").vip))
show("a record that is not there", people:load("bob"))

-- Sessions ------------------------------------------------------------------------------------------

title("Sessions: of their ids the server holds only hashes")
local sessions = assert(client:sessions("web", {
  ttl = 60, secret = "32 random bytes, known to no one", fields = { device = "string" },
}))
local phone = assert(sessions:create("user:42", { device = "phone" }))
local laptop = assert(sessions:create("user:42", { device = "laptop" }))
show("an id for a cookie", phone:sub(1, 8) .. "...")
show("what it stands for", assert(sessions:load(phone)).device)
local rotated = assert(sessions:rotate(phone))
show("rotated: the old id is nobody's", sessions:load(phone))
show("sessions of this user", #assert(sessions:list "user:42"))
show("logged out everywhere else", sessions:revoke_all("user:42", rotated))
show("the laptop's session", sessions:load(laptop))

-- Blocklists ----------------------------------------------------------------------------------------

title("A blocklist: signed tokens that end before they expire")
local list = assert(client:blocklist("api", { hash_key = "a secret of 16 to 64 bytes" }))
local now = math.tointeger(client:time()[1])
local token = { jti = redmoon.new_jti(), sub = "user:42", iat = now }
show("a good token, which you have verified: revoked", assert(list:check(token)).revoked)
assert(list:revoke { jti = token.jti, exp = now + 60, reason = "logout" })
bad("after a log-out it is: " .. list:check(token).reason)
local bumped = assert(list:bump "user:42")
bad("a new password: all older tokens are, by their " .. list:check({ sub = "user:42", iat = now }).reason)
show("one that was issued since", list:check({ sub = "user:42", iat = now, ver = bumped }).revoked)
assert(list:rotate { family = "login", new = "r1", ttl = 60 })
assert(list:rotate { family = "login", presented = "r1", new = "r2", ttl = 60 })
bad("a refresh token used twice: " .. list:rotate({ family = "login", presented = "r1", new = "r3", ttl = 60 }).status)
bad("so its whole family is revoked: " .. list:check({ family = "login" }).reason)

-- The pool ------------------------------------------------------------------------------------------

title("The pool did all of this")
local stats = client:stats()
show("connections dialled", stats.dials)
show("borrowed from the idle ones", stats.hits)
show("idle now, in use now", stats.idle .. ", " .. stats.in_use)

clean(client)
rival:close()
client:close()
if server then server:close() end
print("\n" .. paint("32", "Done.") .. " Nothing was left behind.")
