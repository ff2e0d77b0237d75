-- SPDX-License-Identifier: MIT
-- client:with_lock(name, options, fn, ...): holds a lock while a function runs; so does redlock:with_lock.

local M = {}

-- Releases first, so that a lost lock is told before the results count.
local function finish(lock, ...)
  local released, message, code, detail = lock:release()
  if not released then return nil, message, code, detail end
  return ...
end

-- Calls fn(lock, ...) and returns what it returns; or nil, message, code, detail when the lock could not be had, or when
-- it was lost before the end (code LOST).  What fn raises is raised, after the release.
function M.with_lock(client, name, options, fn, ...)
  if type(options) == "function" then
    return M.with_lock(client, name, nil, options, fn, ...)
  end
  if type(name) ~= "string" then
    error("with_lock: the lock's name expected, got " .. type(name), 2)
  end
  if type(fn) ~= "function" then
    error("with_lock: a function expected, got " .. type(fn), 2)
  end
  local lock <close>, message, code, detail = client:lock(name, options)
  if not lock then return nil, message, code, detail end
  return finish(lock, fn(lock, ...))
end

return M
