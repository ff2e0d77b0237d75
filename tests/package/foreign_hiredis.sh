#!/bin/sh
# The module in a process that has another hiredis: neither gets the other's functions.   foreign_hiredis.sh SOURCE WORK
set -eu
src=$1 work=$2/foreign-hiredis
export LC_ALL=C
passed=0 failed=0
mkdir -p "$work"

check() { # check "what must hold" command...
  what=$1
  shift
  if "$@" >"$work/output" 2>&1; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    printf 'FAILED: %s\n' "$what"
    cat "$work/output"
  fi
}

finish() {
  echo "$passed passed, $failed failed, 0 skipped"
  [ "$failed" -eq 0 ] || exit 1
  exit 0
}

build=$2/build # install.sh's
build() {
  [ -d "$build" ] || cmake -S "$src" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release || return
  cmake --build "$build" --target redmoon-core
}
check "the module builds" build
[ "$failed" -eq 0 ] || finish

# Any version will do: redis-tools and others bring one.  Where there is none it is made: every function that hiredis
# has, to end the process that calls it, which is stricter still.
foreign=${REDMOON_FOREIGN_HIREDIS:-$(ldconfig -p | awk '$1 ~ /^libhiredis\.so/ { print $NF; exit }')}
if [ -z "$foreign" ]; then
  foreign=$work/libhiredis-foreign.so
  awk 'BEGIN { print "#include <stdlib.h>" }
       $1 == "#define" && $2 ~ /^(redis|hiredis|sds|hi_)/ && NF == 3 && !seen[$2]++ {
         print "void " $2 "(void);\nvoid " $2 "(void) { abort(); }" }' "$src/cmake/hiredis-names.h" >"$work/foreign.c"
  check "another hiredis can be made" cc -shared -fPIC -fno-builtin "$work/foreign.c" -o "$foreign"
fi
echo "the other hiredis: $foreign"

tree=$build/lua
core=$tree/redmoon/core.so
LUA_CPATH="$tree/?.so"
LUA_PATH="$tree/?.lua;$tree/?/init.lua"
export LUA_CPATH LUA_PATH

shows_entry_alone() { [ "$(nm -D --defined-only "$core" | awk '{ print $3 }')" = luaopen_redmoon_core ]; }
check "redmoon/core.so exports exactly luaopen_redmoon_core" shows_entry_alone

cat >"$work/use.lua" <<'LUA'
local maps = assert(io.open("/proc/self/maps")):read("a")
assert(not arg[1] or maps:find(arg[1], 1, true), "the other hiredis is not in this process")
local redmoon = require "redmoon"
local server <close> = assert(redmoon.embedded())
for _, protocol in ipairs { 2, 3 } do
  local client <close> = assert(server:connect { protocol = protocol })
  -- RESP3 maps and doubles, and deep nesting, are what an old reader does not know.
  assert(client:hset("h", "a", "1"))
  assert(assert(client:hgetall("h")).a == "1")
  assert(client:zadd("z", 1.5, "m"))
  assert(client:zscore("z", "m") == 1.5)
  local nested = assert(client:eval("local t = {1} for i = 1, 20 do t = {t} end return t", 0))
  for _ = 1, 20 do nested = nested[1] end
  assert(nested[1] == 1)
  local replies = assert(client:pipeline(function(p)
    for i = 1, 1000 do p:echo(i) end
  end))
  assert(replies[1000] == "1000")
end
LUA
check "the module works alone" lua5.4 "$work/use.lua"
check "the module works with another hiredis loaded before it" env LD_PRELOAD="$foreign" lua5.4 "$work/use.lua" \
  "$(basename "$(readlink -f "$foreign")")"

# And the other way round: a host that uses its own hiredis, after the module was loaded into all names there are.
cat >"$work/host.c" <<'C'
#include <dlfcn.h>
#include <stdio.h>
int main(int argc, char **argv) {
  if (argc != 3) return 2;
  void *other = dlopen(argv[1], RTLD_NOW | RTLD_GLOBAL);
  void *before = other != NULL ? dlsym(RTLD_DEFAULT, "redisReaderFree") : NULL;
  void *module = dlopen(argv[2], RTLD_LAZY | RTLD_GLOBAL);
  if (other == NULL || before == NULL || module == NULL) return fprintf(stderr, "%s\n", dlerror()), 3;
  return dlsym(RTLD_DEFAULT, "redisReaderFree") == before && dlsym(module, "luaopen_redmoon_core") != NULL ? 0 : 5;
}
C
host() {
  cc -D_GNU_SOURCE -rdynamic "$work/host.c" -o "$work/host" -Wl,--no-as-needed -llua5.4 -ldl &&
    "$work/host" "$foreign" "$core"
}
check "a host keeps the hiredis it had" host
finish
