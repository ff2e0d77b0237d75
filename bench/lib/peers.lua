-- SPDX-License-Identifier: MIT
-- The programs that are measured, and how each is called.
--
-- (root, build) -> { {name=, title=, command=, version=, ...}, ... }
--   command    gets ADDRESS WORK BUDGET appended
--   version    a command that prints it
--   base       all others are compared with it; comes first
--   counted    its instructions are counted under callgrind
--   no_memory  it cannot tell its own peak
--   patterns   of the works of patterns: those it has ("all", or names)
--   probe      it has no other works; the one by which it is tried
--   start      a command that loads the library, connects to ADDRESS and reads a key
return function(root, build)
  local folder = root .. "/bench/peers"
  local own = ("env LUA_PATH='%s/shared/?.lua;%s/lua/?.lua;%s/lua/?/init.lua;;' "
    .. "LUA_CPATH='%s/lua/?.so;;' lua5.4"):format(folder, build, build, build)
  local debian = ("env LUA_PATH='%s/shared/?.lua;;/usr/share/lua/5.3/?.lua' lua5.4"):format(folder)
  local commit = ("git -C '%s' describe --always --dirty"):format(root)
  local function npm_version(package)
    return ([[node -p "require('%s/node_modules/%s/package.json').version"]])
      :format(folder, package)
  end

  return {
    {name = "hiredis", title = "hiredis (C)", base = true, counted = true, patterns = "all",
      command = build .. "/bench/hiredis",
      version = "sed -n 's/^#define HIREDIS_\\(MAJOR\\|MINOR\\|PATCH\\) //p' " .. build
        .. "/hiredis-include/hiredis/hiredis.h | paste -s -d ."},
    {name = "redmoon-c", title = "Redmoon (C)", counted = true, patterns = "lock rate counter",
      command = build .. "/bench/redmoon", version = commit},
    {name = "redmoon-lua", title = "Redmoon (Lua)", counted = true, patterns = "lock rate counter job job50 jobs",
      command = ("%s %s/redmoon.lua"):format(own, folder), version = commit,
      start = own .. [[ -e '
        local client = assert(require("redmoon").connect("redis://ADDRESS"))
        assert(client:get("bench:key:0000"))']]},
    {name = "redis-benchmark", title = "redis-benchmark", no_memory = true,
      command = folder .. "/redis-benchmark", version = "redis-benchmark --version"},
    {name = "redis-lua", title = "redis-lua", counted = true,
      command = ("%s %s/redis-lua.lua"):format(debian, folder),
      version = "dpkg-query -W -f '${Version}' lua-redis"},
    {name = "redis-py", title = "redis-py + hiredis", patterns = "lock",
      command = ("/usr/bin/python3 %s/redis_py.py"):format(folder),
      version = "dpkg-query -W -f '${Version} ' python3-redis python3-hiredis"},
    {name = "go-redis", title = "go-redis", command = folder .. "/go-redis", version = folder .. "/go-redis version"},
    {name = "ioredis", title = "ioredis", command = ("node %s/ioredis.mjs"):format(folder),
      version = npm_version("ioredis")},
    {name = "node-redis", title = "node-redis",
      command = ("node %s/node_redis.mjs"):format(folder), version = npm_version("redis")},
    {name = "bullmq", title = "BullMQ", patterns = "job job50 jobs", probe = "job",
      command = ("node %s/bullmq.mjs"):format(folder), version = npm_version("bullmq")},
  }
end
