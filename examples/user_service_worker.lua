-- SPDX-License-Identifier: MIT
-- The mail worker of user_service.lua: takes mails from the queue until it is told that no more will come, and prints
-- what it did as one line of JSON.
--
--     lua5.4 examples/user_service_worker.lua URL

local redmoon = require "redmoon"
local service = dofile((arg[0]:match "^(.*)/" or ".") .. "/user_service_parts.lua")

local parts <close> = service.open(arg[1])
local did = { sent = 0, failed = 0, twice = 0 }
local sent = {} -- by id: a mail server would want it as the key against doubles

-- A mail server that is busy now and then, and refuses some users for good.
local function send(job)
  local busy = job.attempt == 1 and math.random(20) == 1
  if busy or tonumber(job.payload.user) % 40 == 0 then
    did.failed = did.failed + 1
    error(busy and "the mail server is busy" or "the mail server refuses this address")
  end
  if sent[job.id] then did.twice = did.twice + 1 end
  sent[job.id] = true
  did.sent = did.sent + 1
end

local function is_done()
  if not service.is_the_end(parts.client) then return false end
  local stats = assert(parts.mails:stats())
  return stats.ready + stats.delayed + stats.leased == 0
end

assert(parts.mails:work(send, { stop = is_done }))
print(redmoon.json.encode(did))
