-- status: the first element of every answer; core/src/patterns/status_generated.h has the same numbers.
local LOCK_OK = 1 -- acquired, extended or released
local LOCK_HELD = 0 -- another token holds it
local LOCK_GONE = -1 -- nobody holds it
local RATE_ALLOWED = 1 -- the units were taken (peek: would be)
local RATE_DENIED = 0 -- they were not, and nothing was written
local COUNT_OK = 1 -- all of it was counted (get: read)
local COUNT_CLAMPED = 2 -- as much of it as the bounds let through
local COUNT_REFUSED = 0 -- it is out of bounds, and nothing was written
local BLOCK_EXPIRED = 0 -- there is nothing to revoke any more
local BLOCK_REVOKED = 1 -- revoked
local BLOCK_KEPT = 2 -- revoked for as long or longer already
local BLOCK_FAR = -1 -- more than 100 years away
local BLOCK_ROTATED = 1 -- the new id is the current one
local BLOCK_REUSED = 3 -- an id that is not current was presented: the family is revoked now
local BLOCK_DEAD = 4 -- the family was revoked before
local BLOCK_TAKEN = 5 -- a family to begin that is there already
local BLOCK_GONE = 6 -- no such family
