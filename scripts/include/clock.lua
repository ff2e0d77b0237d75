-- clock: `now`, the server's time in microseconds, read once.
local clock = redis.call("TIME")
local now = tonumber(clock[1]) * 1000000 + tonumber(clock[2])
