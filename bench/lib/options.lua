-- SPDX-License-Identifier: MIT
-- The command line of bench/run.
local works = "get set get64k pipe100 pipe1000 lrange hgetall mget lock rate counter cache job job50 jobs"
local peers = "hiredis redmoon-c redmoon-lua redis-benchmark redis-lua redis-py go-redis ioredis node-redis bullmq"

local usage = ([[
usage: bench/run [option]...
  --quick             3 short rounds on one core, instructions of GET only: about a minute
  --rounds N          rounds of each mode (9)
  --seconds S         length of one measurement (0.2)
  --modes A,B         of same, split, free (same,split)
  --works A,B         of %s
                      (all; in mode split get, get64k and pipe1000)
  --peers A,B         of %s
  --instructions A,B  works whose instructions are counted, or none (all but set and pipe100)
  --unix              a unix socket instead of TCP on loopback
  --build DIR         use this build folder as it is (build/bench, configured and built first)
]]):format(works:gsub(" ", ","), (peers:gsub(" ", ",")))

-- name -> {what is accepted: a pattern's name or a list of words; the default}
local known = {
  rounds = {"count", 9}, seconds = {"number", 0.2}, build = {"text"},
  modes = {"same split free", "same,split"}, works = {works, "all"}, peers = {peers, "all"},
  instructions = {works, "get,get64k,pipe1000,lrange,hgetall,mget"},
}
local quick = {rounds = 3, seconds = 0.1, modes = "same", instructions = "get"}

local function fail(text, ...)
  io.stderr:write("bench/run: ", text:format(...), "\n", usage)
  os.exit(1, true)
end

local function words_of(name, text, accepted)
  local words = {}
  if text == "none" then return words end
  if text == "all" then text = accepted end
  for word in text:gmatch("[^,%s]+") do
    if not (" " .. accepted .. " "):find(" " .. word .. " ", 1, true) then
      fail("--%s: '%s' is not accepted; accepted: %s", name, word, accepted)
    end
    words[#words + 1] = word
  end
  return words
end

local function value_of(name, text)
  local accepted = known[name][1]
  if accepted == "text" then return text end
  if accepted ~= "count" and accepted ~= "number" then return words_of(name, text, accepted) end
  local number = tonumber(text)
  if accepted == "count" then number = math.tointeger(number) end
  if not number or number <= 0 then
    fail("--%s: '%s' is not accepted; accepted: a %s above 0", name, text, accepted)
  end
  return number
end

-- -> {rounds=, seconds=, modes={}, works={}, split_works={}, peers={}, instructions={}, unix=,
--     build=}
return function(args)
  local given, options = {}, {}
  local i = 1
  while args[i] do
    local name = args[i]:match("^%-%-(%l+)$")
    if name == "help" then
      io.write(usage)
      os.exit(0, true)
    elseif name == "unix" then
      options.unix = true
    elseif name == "quick" then
      for key, value in pairs(quick) do given[key] = given[key] or value end
    elseif known[name] then
      i = i + 1
      given[name] = args[i] or fail("--%s needs a value", name)
    else
      fail("'%s' is not an option", args[i])
    end
    i = i + 1
  end
  for name, rule in pairs(known) do
    local value = given[name] or rule[2]
    options[name] = value and value_of(name, tostring(value))
  end
  options.split_works = options.works
  if not given.works then options.split_works = {"get", "get64k", "pipe1000"} end
  return options
end
