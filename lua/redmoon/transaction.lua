-- SPDX-License-Identifier: MIT
-- client:transaction([keys,] fn [, options]): runs the body, commits, and runs it again after a conflict.

local core = require("redmoon.core").transaction

local M = {}

-- pool_timeout is for the whole of it, so a full pool is not waited for twice.
local function may_repeat(code, detail)
  if code == "POOL_TIMEOUT" then return false end
  return code == "CONFLICT" or (detail ~= nil and detail.retryable)
end

local function attempts(client, keys, fn, options)
  local tx <close>, message, code, detail = core.begin(client, keys, options)
  if not tx then return nil, message, code, detail end
  while true do
    if fn(tx) == false then
      core.abandon(tx)
      return false
    end
    local replies
    replies, message, code, detail = core.exec(tx)
    if replies then return replies end
    if not may_repeat(code, detail) then return nil, message, code, detail end
    local again, why, why_code, why_detail = core.again(tx)
    if not again then return nil, why, why_code, why_detail end
  end
end

-- keys: a key, or a list of keys, to be watched.  Returns the replies; `false` when the body returned false;
-- else nil, message, code, detail.  What the body raises is raised.
function M.run(client, keys, fn, options)
  if type(keys) == "function" then keys, fn, options = nil, keys, fn end
  if type(keys) == "string" or math.type(keys) == "integer" then keys = { keys } end
  if keys ~= nil and type(keys) ~= "table" then
    error("transaction: a key or a list of keys expected, got " .. type(keys), 2)
  end
  if type(fn) ~= "function" then
    error("transaction: a function expected, got " .. type(fn), 2)
  end
  return attempts(client, keys, fn, options)
end

return M
