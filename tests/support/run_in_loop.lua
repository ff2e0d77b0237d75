-- SPDX-License-Identifier: MIT
-- lua5.4 run_in_loop.lua cqueues|luv|copas <script> ...: runs a Lua script, busted say, in a coroutine of an event
-- loop, so that what yields in it goes through the loop.  $REDMOON_TEST_LOOP tells the specs' helper.

local which, script = arg[1], arg[2]
arg = table.move(arg, 3, #arg, 1, { [0] = script }) -- luacheck: ignore

-- A script that exits inside of the loop would end the state under the loop's feet: it exits when the loop has ended.
local exit, exit_code, exiting = os.exit, nil, {}
function os.exit(code) -- luacheck: ignore
  exit_code = code == nil or code
  error(exiting)
end

local function run()
  local chunk = assert(loadfile(script))
  chunk(table.unpack(arg))
end

local is_done = false
local function main()
  local ok, message = xpcall(run, function(message)
    return message == exiting and exiting or debug.traceback(message)
  end)
  is_done = true
  if not ok and message ~= exiting then
    io.stderr:write(tostring(message), "\n")
    exit_code = 1
  end
end

if which == "cqueues" then
  local controller = require("cqueues").new()
  controller:wrap(main)
  assert(controller:loop())
elseif which == "luv" then
  local uv = require "luv" -- calls back on the coroutine that has loaded it
  assert(coroutine.resume(coroutine.create(main)))
  uv.run()
elseif which == "copas" then
  local copas = require "copas"
  copas.addthread(main)
  while not is_done do copas.step(1) end
else
  error("cqueues, luv or copas expected")
end
exit(exit_code, true)
