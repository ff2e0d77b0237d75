-- queue: what is kept of a job, in the hash of jobs: "j<id>" its record, "p<id>" its payload, "e<id>" why it failed last,
-- "r<id>" its progress or result; "u<key>" the id of the job that has this unique key, until it is done or dead; and
-- "g<group>" what include/queue_group.lua keeps of a group.
local QUEUE_PRIORITY, QUEUE_SEQ, QUEUE_FAILURES, QUEUE_CRASHES = 1, 2, 3, 4 -- of a record, a packed list
local QUEUE_MAX_ATTEMPTS, QUEUE_MAX_CRASHES, QUEUE_EPOCH, QUEUE_UNIQUE = 5, 6, 7, 8
local QUEUE_GROUP = 9 -- of those that have one

local function queue_text(number)
  return string.format("%.0f", number)
end

-- An integer from `low` to `high`, or nil.
local function queue_whole(text, low, high)
  local number = tonumber(text)
  return number and number % 1 == 0 and number >= low and number <= high and number or nil
end

local function queue_record(jobs, id)
  local packed = redis.call("HGET", jobs, "j" .. id)
  return packed and cmsgpack.unpack(packed) or nil
end

-- Higher priorities first, and in each the order of seq.  Exact: below 1024 * 2^42 = 2^52.
local function queue_score(record)
  return queue_text((1023 - record[QUEUE_PRIORITY]) * 4398046511104 + record[QUEUE_SEQ])
end
