-- SPDX-License-Identifier: MIT
-- Redmoon: Redis, safe and fast.  The module's table; what it holds is in docs/types/redmoon.d.lua.

local core = require "redmoon.core"
local transaction = require "redmoon.transaction"
local locking = require "redmoon.locking"
local queue = require "redmoon.queue"
local subscription = require "redmoon.subscription"

local methods = core.client_methods
methods.transaction = transaction.run
methods.with_lock = locking.with_lock
core.queue_methods.work = queue.work
core.queue_methods.events = queue.events
core.subscription_methods.on_message = subscription.on_message
core.redlock_methods.with_lock = locking.with_lock

return {
  version = core.version,
  json = core.json,
  null = core.null,
  new_jti = core.new_jti,
  is_error = core.is_error,
  connect = core.connect,
  embedded = core.embedded,
  rate_limits = core.rate_limits,
  redlock = core.redlock,
  script = core.script,
  build_info = core.build_info,
}
