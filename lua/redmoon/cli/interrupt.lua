-- SPDX-License-Identifier: MIT
-- Ctrl-C for work that has to be put away properly.
--
-- Lua's interpreter answers SIGINT with a hook of the main coroutine, which raises wherever that happens to be. The work
-- runs in a coroutine of its own, where the hook does not fire, and asks now and then whether it is set. A second Ctrl-C
-- ends the process at once: the interpreter has given the signal back to the system by then.

local M = {}

-- Runs work(pressed, ...) and returns what it returns; pressed() says whether Ctrl-C came.
function M.guard(work, ...)
  local main = coroutine.running()
  local came = false
  local function pressed()
    if not came and debug.gethook(main) then
      came = true
      debug.sethook(main)
    end
    return came
  end
  local thread = coroutine.create(work)
  local results = table.pack(coroutine.resume(thread, pressed, ...))
  if not results[1] then
    coroutine.close(thread) -- what is to be closed there
    error(results[2], 0)
  end
  return table.unpack(results, 2, results.n)
end

return M
