-- status: the first element of every answer; core/src/patterns/status_generated.h has the same numbers.
local LOCK_OK = 1 -- acquired, extended or released
local LOCK_HELD = 0 -- another token holds it
local LOCK_GONE = -1 -- nobody holds it
local RATE_ALLOWED = 1 -- the units were taken (peek: would be)
local RATE_DENIED = 0 -- they were not, and nothing was written
local RECORD_OK = 1 -- there is a record, and what was asked was done
local RECORD_GONE = 0 -- there is none; nothing was written
local RECORD_CONFLICT = -1 -- it has another version; nothing was written
local RECORD_RANGE = -2 -- the sum is out of the field's range; nothing was written
local RECORD_UNREADABLE = -3 -- the field holds no number; nothing was written
