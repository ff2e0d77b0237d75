-- SPDX-License-Identifier: MIT
-- doctor: the way to the server: each step of the dial, the round trip, protocol, TLS, the two clocks.

local connection = require "redmoon.cli.connection"
local failure = require "redmoon.cli.failure"
local format = require "redmoon.cli.format"
local terminal = require "redmoon.cli.terminal"

local M = {}

local ROUND_TRIPS = 50
local SLOW = 0.005 -- seconds; a server in the same place answers in a tenth of that

local order = { { "resolve", "name" }, { "dial", "dial" }, { "tls", "TLS" }, { "handshake", "login" } }

-- Dials, timed; returns a client whose server has answered, and the event of its dial.
function M.dial(args)
  local client = connection.client(args, { client_name = "redmoon-doctor" })
  local event
  local hook = failure.check("hook", client:on("connect", function(each) event = event or each end))
  local answer, message = client:with { max_retries = 0 }:ping()
  hook:close()
  if answer == nil then
    client:close()
    return nil, message, event
  end
  return client, nil, event
end

function M.dialled(report, event)
  local parts, values = {}, { seconds = event.duration, steps = event.steps }
  for _, step in ipairs(order) do
    local took = event.steps[step[1]]
    if took > 0 then parts[#parts + 1] = step[2] .. " " .. format.latency(took) end
  end
  local text = ("%s in %s: %s"):format(event.address, format.latency(event.duration), table.concat(parts, ", "))
  if event.duration < 0.25 then return report:ok("connection", text, values) end
  report:warning("connection", text, "a new connection takes long: keep some ready with min_idle", values)
end

function M.round_trip(report, subject)
  local times = {}
  for i = 1, ROUND_TRIPS do
    local began = terminal.now()
    failure.check("ping", subject.client:ping())
    times[i] = terminal.now() - began
  end
  table.sort(times)
  local median, worst = times[ROUND_TRIPS // 2], times[ROUND_TRIPS]
  local text = ("median %s, longest of %d %s"):format(format.latency(median), ROUND_TRIPS, format.latency(worst))
  local values = { median = median, max = worst }
  if median < SLOW then return report:ok("round trip", text, values) end
  report:warning("round trip", text, "the server is far away or busy: send commands together, with client:pipeline",
    values)
end

function M.protocol(report, subject)
  local text, message = subject.client:call("CLIENT", "INFO")
  local version = type(text) == "string" and text:match("resp=(%d)")
  if version then return report:ok("protocol", "RESP" .. version, { protocol = math.tointeger(version) }) end
  report:skipped("protocol", type(text) == "string" and "the server does not tell it" or message)
end

function M.encryption(report, subject)
  local is_tls = subject.url:find("^rediss[+:]") ~= nil or subject.url:find("^valkeys[+:]") ~= nil
  if is_tls and (subject.tls_verify or ""):find("^[fFnN0]") then
    report:failure("TLS", "on, but the certificate is not verified: anybody may be the server",
      "take tls_verify=false out of the URL and give tls_ca_file=")
  elseif is_tls then
    report:ok("TLS", "on, chain and name verified")
  elseif subject:is_local() then
    report:ok("TLS", "off; the connection does not leave this machine")
  else
    report:warning("TLS", "off: password and data can be read on the way",
      "give the server a certificate (tls-port) and use rediss://; within a trusted network it may be as it is")
  end
end

-- Shown for people who compare logs: nothing depends on it.
function M.clock(report, subject)
  local began = terminal.wall()
  local time, message = subject.client:time()
  if not time then return report:skipped("clock", message) end
  local ended = terminal.wall()
  local server = tonumber(time[1]) + tonumber(time[2]) / 1e6
  local apart = server - (began + ended) / 2
  local text = math.abs(apart) <= (ended - began) / 2 + 0.001 and "agrees with this machine's"
    or ("%s %s this machine's; patterns use the server's alone, so it does no harm"):format(
      format.latency(math.abs(apart)), apart > 0 and "ahead of" or "behind")
  report:ok("clock", text, { server_ahead = apart })
end

return M
