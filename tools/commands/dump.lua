-- Runs inside a Redis server (EVAL): one line per command and subcommand, as tools/commands/redis-*.txt keeps them:
-- NAME arity first_key last_key key_step flag,flag,...
local lines = {}

local function word(value)
  return type(value) == "table" and value.ok or value
end

local function add(command)
  local flags = {}
  for i, flag in ipairs(command[3]) do
    flags[i] = word(flag)
  end
  table.sort(flags)
  local name = string.upper(string.gsub(command[1], "|", " "))
  lines[#lines + 1] = string.format("%s\t%d %d %d %d %s", name, command[2], command[4], command[5], command[6],
    #flags > 0 and table.concat(flags, ",") or "-")
  for _, sub in ipairs(command[10] or {}) do
    add(sub)
  end
end

for _, command in ipairs(redis.call("COMMAND")) do
  add(command)
end
table.sort(lines)
return lines
