-- status: the first element of every answer; core/src/patterns/status_generated.h has the same numbers.
local LOCK_OK = 1 -- acquired, extended or released
local LOCK_HELD = 0 -- another token holds it
local LOCK_GONE = -1 -- nobody holds it
local RATE_ALLOWED = 1 -- the units were taken (peek: would be)
local RATE_DENIED = 0 -- they were not, and nothing was written
local GUARD_ACCEPTED = 1 -- no higher fence was seen
local GUARD_REFUSED = 0 -- a higher one was
local PERMIT_OK = 1 -- taken, extended or given back (peek: would be taken)
local PERMIT_BUSY = 0 -- others have them
local PERMIT_GONE = -1 -- the lease is over
