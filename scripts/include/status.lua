-- status: the first element of every answer; core/src/patterns/status_generated.h has the same numbers.
local LOCK_OK = 1 -- acquired, extended or released
local LOCK_HELD = 0 -- another token holds it
local LOCK_GONE = -1 -- nobody holds it
local RATE_ALLOWED = 1 -- the units were taken (peek: would be)
local RATE_DENIED = 0 -- they were not, and nothing was written
local LOCK_MORE = 2 -- the owner holds it more than once: acquired again, or released and still held
local LOCK_SPENT = -2 -- it has been held for as long as it may
