-- waits: the mark of those who wait for an object, <prefix>:{<name>}:<part>.waits.  Who is refused and will ask again
-- sets it; who gives the object back deletes it, and if it was there publishes to the channel of the same name, by pcall:
-- one who may not publish gives back all the same.  core/src/engine/wakeups.h says why no wake-up is lost.
local WAITS_TTL = "10000" -- ms; who waits asks at least every 5 s
