-- status: the first element of every answer; core/src/patterns/status_generated.h has the same numbers.
local LOCK_OK = 1 -- acquired, extended or released
local LOCK_HELD = 0 -- another token holds it
local LOCK_GONE = -1 -- nobody holds it
local RATE_ALLOWED = 1 -- the units were taken (peek: would be)
local RATE_DENIED = 0 -- they were not, and nothing was written
local COUNT_OK = 1 -- all of it was counted (get: read)
local COUNT_CLAMPED = 2 -- as much of it as the bounds let through
local COUNT_REFUSED = 0 -- it is out of bounds, and nothing was written
