#!/bin/sh
# An installed tree: what it shows, and that programs build against it.   install.sh SOURCE WORK
set -eu
src=$1 work=$2
export LC_ALL=C
passed=0 failed=0
rm -rf "$work/prefix" "$work/programs"
mkdir -p "$work/programs"

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

build() {
  cmake -S "$src" -B "$work/build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DREDMOON_WERROR=ON \
    -DCMAKE_INSTALL_PREFIX="$work/prefix" && cmake --build "$work/build" && cmake --install "$work/build"
}
check "it builds and installs" build
[ "$failed" -eq 0 ] || finish

prefix=$work/prefix
lib=$(dirname "$(find "$prefix" -name libredmoon.so | head -n 1)")
export PKG_CONFIG_PATH="$lib/pkgconfig" LD_LIBRARY_PATH="$lib"

cat >"$work/programs/main.c" <<'C'
#include <redmoon/redmoon.h>
#include <stdio.h>
#include <string.h>
int main(void) {
  redmoon_error err;
  redmoon_embedded *server = NULL;
  if (redmoon_embedded_start(NULL, &server, &err) != 0) return fprintf(stderr, "%s\n", err.message), 1;
  puts(redmoon_embedded_url(server));
  redmoon_embedded_close(server);
  return strcmp(redmoon_status_code(REDMOON_ETIMEOUT), "TIMEOUT") != 0;
}
C
cat >"$work/programs/CMakeLists.txt" <<'CMAKE'
cmake_minimum_required(VERSION 3.21)
project(consumer C)
find_package(redmoon 0.1 REQUIRED)
add_executable(shared main.c)
target_link_libraries(shared PRIVATE redmoon::redmoon)
add_executable(static main.c)
target_link_libraries(static PRIVATE redmoon::redmoon-static)
CMAKE

by_pkg_config() {
  # shellcheck disable=SC2046 # a list of words
  cc -std=c11 -Wall -Wextra -Wpedantic -Werror "$work/programs/main.c" -o "$work/programs/by-pkg-config" \
    $(pkg-config --cflags --libs redmoon) && "$work/programs/by-pkg-config"
}
by_find_package() {
  cmake -S "$work/programs" -B "$work/programs/build" -DCMAKE_PREFIX_PATH="$prefix" &&
    cmake --build "$work/programs/build" && "$work/programs/build/$1"
}
check "a C program builds by pkg-config and runs" by_pkg_config
check "a C program builds by find_package, shared, and runs" by_find_package shared
check "a C program builds by find_package, static, and runs" by_find_package static

each_header_alone() {
  for header in "$prefix"/include/redmoon/*.h; do
    printf '#include <redmoon/%s>\nint none;\n' "$(basename "$header")" >"$work/programs/header.c"
    cc -std=c11 -Wall -Wextra -Wpedantic -Werror -fsyntax-only -I "$prefix/include" "$work/programs/header.c" || return 1
    cc -x c++ -std=c++11 -fsyntax-only -I "$prefix/include" "$work/programs/header.c" 2>"$work/cxx" ||
      grep -q 'cc1plus' "$work/cxx" || { cat "$work/cxx"; return 1; }
  done
}
check "each header compiles by itself" each_header_alone

# shown FILE: names that others can see.
shown() { nm -D --defined-only "$1" | awk '$2 ~ /[TDBRVWi]/ { sub(/@.*/, "", $3); print $3 }' | sort -u; }
shows_only_ours() { ! shown "$lib/libredmoon.so" | grep -vE '^(redmoon_|rm_[a-z]|REDMOON)' | grep .; }
check "libredmoon.so shows names of ours alone, none of hiredis" shows_only_ours
shows_every_declared_function() {
  cat "$prefix"/include/redmoon/*.h | tr '\n' ' ' | grep -oE 'REDMOON_API [^;]*;' | grep -oE 'redmoon_[a-z0-9_]+\(' |
    tr -d '(' | grep -vE '^redmoon_lua_' | sort -u >"$work/declared"
  shown "$lib/libredmoon.so" >"$work/shown"
  comm -23 "$work/declared" "$work/shown" >"$work/absent"
  ! grep . "$work/absent"
}
check "every declared function is in libredmoon.so" shows_every_declared_function
archive_is_ours() {
  ! nm -g --defined-only "$lib/libredmoon.a" | awk 'NF == 3 { print $3 }' | grep -vE '^(redmoon_|rm_)' | grep .
}
check "libredmoon.a defines names of ours alone" archive_is_ours
is_hardened() {
  readelf -Wl "$1" >"$work/segments"
  readelf -Wd "$1" >"$work/dynamic"
  grep -q 'GNU_STACK.* RW ' "$work/segments" && grep -q GNU_RELRO "$work/segments" && grep -q BIND_NOW "$work/dynamic" &&
    ! grep -qE 'RPATH|RUNPATH|TEXTREL' "$work/dynamic" && ! grep -q ' RWE ' "$work/segments"
}
check "libredmoon.so has read-only relocations, no executable stack and no run path" is_hardened "$lib/libredmoon.so"

# A host that unloads it while one of its threads is inside of the system's resolver, which nothing can interrupt.
cat >"$work/programs/unload.c" <<'C'
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <netdb.h>
#include <redmoon/redmoon.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
static atomic_int entered, let_go;
int getaddrinfo(const char *host, const char *service, const struct addrinfo *hints, struct addrinfo **out) {
  (void)host, (void)service, (void)out;
  if (hints->ai_flags & AI_NUMERICHOST) return EAI_NONAME;
  atomic_store(&entered, 1);
  while (!atomic_load(&let_go)) usleep(1000);
  return EAI_AGAIN;
}
static int threads(void) {
  int count = -2; /* . and .. */
  DIR *tasks = opendir("/proc/self/task");
  while (readdir(tasks) != NULL) count++;
  closedir(tasks);
  return count;
}
#define GET(name) memcpy(&name, &(void *){dlsym(lib, "redmoon_" #name)}, sizeof name)
int main(int argc, char **argv) {
  void *lib = dlopen(argv[argc - 1], RTLD_NOW | RTLD_LOCAL);
  int (*client_open)(const char *, const redmoon_options *, redmoon_client **, redmoon_error *);
  int (*command_start)(redmoon_client *, int, const char *const *, const size_t *, redmoon_reply **, redmoon_op **, redmoon_error *);
  int (*op_step)(redmoon_op *);
  void (*op_cancel)(redmoon_op *), (*client_close)(redmoon_client *);
  if (lib == NULL) return puts(dlerror()), 1;
  GET(client_open), GET(command_start), GET(op_step), GET(op_cancel), GET(client_close);
  redmoon_client *client;
  redmoon_reply *reply;
  redmoon_op *op;
  if (client_open("redis://stalled.example", NULL, &client, NULL) != 0) return 2;
  if (command_start(client, 1, (const char *[]){"PING"}, NULL, &reply, &op, NULL) != 0) return 3;
  while (!atomic_load(&entered)) if (op_step(op)) return 4;
  op_cancel(op);
  client_close(client);
  if (dlclose(lib) != 0) return 5;
  atomic_store(&let_go, 1);
  while (threads() > 1) usleep(1000);
  return 0;
}
C
unloads() {
  cc -std=c11 -Wall -Wextra -Werror -rdynamic -I"$prefix/include" "$work/programs/unload.c" -o "$work/programs/unload" -ldl -lpthread &&
    "$work/programs/unload" "$lib/libredmoon.so"
}
check "libredmoon.so may be unloaded while a thread of it looks up a name" unloads

core=$(find "$prefix" -path '*/lua/5.4/redmoon/core.so' | head -n 1)
share=$prefix/share/lua/5.4
LUA_CPATH="${core%/redmoon/core.so}/?.so"
LUA_PATH="$share/?.lua;$share/?/init.lua"
export LUA_CPATH LUA_PATH
shows_entry_alone() { [ "$(shown "$core")" = luaopen_redmoon_core ]; }
check "redmoon/core.so shows luaopen_redmoon_core alone" shows_entry_alone
check "redmoon/core.so is hardened too" is_hardened "$core"
stays_mapped() { for file in "$lib/libredmoon.so" "$lib/libredmoon-lua.so" "$core"; do readelf -Wd "$file" | grep -q NODELETE || return 1; done; }
check "the libraries and the module stay mapped after dlclose" stays_mapped
check "lua5.4 loads the installed module" lua5.4 -e 'assert(require("redmoon").connect)'
lua_needs_nothing_else() {
  shown "$lib/libredmoon.so" >"$work/shown"
  nm -D --undefined-only "$lib/libredmoon-lua.so" | awk '{ sub(/@.*/, "", $2); print $2 }' | grep -E '^(redmoon_|rm_)' |
    sort -u | comm -23 - "$work/shown" >"$work/absent"
  ! grep . "$work/absent"
}
check "libredmoon-lua.so finds all it needs in libredmoon.so" lua_needs_nothing_else

cat >"$work/programs/host.c" <<'C'
#include <lauxlib.h>
#include <lualib.h>
#include <redmoon/lua.h>
#include <stdio.h>
int main(void) {
  lua_State *L = luaL_newstate();
  luaL_openlibs(L);
  if (luaL_dostring(L, "package.path, package.cpath = '', ''")) return 4;
  luaL_requiref(L, "redmoon", luaopen_redmoon, 1);
  redmoon_client *client = NULL;
  redmoon_error err;
  if (redmoon_client_open("redis://localhost", NULL, &client, &err) != 0) return fprintf(stderr, "%s\n", err.message), 1;
  redmoon_lua_push_client(L, client);
  if (redmoon_lua_check_client(L, -1) != client) return 2;
  lua_setglobal(L, "client");
  if (luaL_dostring(L, "assert(tostring(client):find('localhost'))")) return fprintf(stderr, "%s\n", lua_tostring(L, -1)), 3;
  lua_close(L);
  redmoon_client_close(client);
  return 0;
}
C
host() { # host NAME FLAGS...
  name=$1
  shift
  # shellcheck disable=SC2046 # a list of words
  cc -std=c11 -Wall -Wextra "$work/programs/host.c" -o "$work/programs/$name" $(pkg-config --cflags lua5.4) \
    "$@" $(pkg-config --libs lua5.4) && "$work/programs/$name"
}
# shellcheck disable=SC2046
check "a C host embeds the module without files on disk, shared" host host-shared \
  $(pkg-config --cflags --libs redmoon-lua)
# shellcheck disable=SC2046
check "a C host embeds the module without files on disk, static" host host-static -DREDMOON_STATIC \
  -I"$prefix/include" "$lib/libredmoon-lua.a" "$lib/libredmoon.a" \
  $(pkg-config --libs libsodium libzstd openssl jansson) $(pkg-config --exists 'hiredis >= 1.2' && pkg-config --libs hiredis) -lpthread -lm

# The tool finds its modules by itself, from any folder, and through a link.
tool() { # tool PROGRAM WORDS...
  program=$1
  shift
  (cd / && env -u LUA_PATH -u LUA_CPATH -u REDIS_URL "$program" "$@")
}
tool_is_of_this_version() { [ "$(tool "$1" --version)" = "redmoon $(pkg-config --modversion redmoon)" ]; }
tool_by_link() {
  ln -sf "$prefix/bin/redmoon" "$work/programs/link" && tool_is_of_this_version "$work/programs/link"
}
check "bin/redmoon runs" tool_is_of_this_version "$prefix/bin/redmoon"
check "bin/redmoon runs through a link" tool_by_link
check "redmoon demo runs" tool "$prefix/bin/redmoon" demo

compile_example() { # compile_example NAME FLAGS...
  name=$1
  shift
  cc -std=c11 -D_POSIX_C_SOURCE=200809L -Wall -Wextra -Werror "$src/examples/$name.c" -o "$work/programs/$name" "$@"
}
example() { compile_example "$@" && env -u REDIS_URL "$work/programs/$1"; }
# Requests as anybody would send them, and an end in good order.
host_serves() {
  compile_example host "$src/examples/host_http.c" "$@" || return 1
  env -u REDIS_URL "$work/programs/host" "$src/examples/host.lua" >"$work/host.out" &
  host=$!
  while ! grep -q listening "$work/host.out"; do kill -0 "$host" || return 1; done
  url=$(sed 's/^listening on //' "$work/host.out")
  served=0
  curl -sf -X PUT -d Ada "$url/users/7" && curl -sf "$url/users/7" | grep -q '"name":"Ada"' &&
    curl -sf -d ada@example.org "$url/mails" && ! curl -sf "$url/users/8" || served=1
  kill "$host" && wait "$host" && [ "$served" = 0 ]
}
# shellcheck disable=SC2046
check "examples/quickstart.c builds and runs" example quickstart $(pkg-config --cflags --libs redmoon)
# shellcheck disable=SC2046
check "examples/own_loop.c builds and runs" example own_loop $(pkg-config --cflags --libs redmoon)
# shellcheck disable=SC2046
check "examples/host.c builds, serves and stops" host_serves $(pkg-config --cflags --libs redmoon-lua lua5.4) -lpthread
check "examples/tour.lua runs" env -u REDIS_URL lua5.4 "$src/examples/tour.lua"
check "examples/user_service.lua loses nothing" env -u REDIS_URL lua5.4 "$src/examples/user_service.lua" 2

# The code of the documents, against a private server: what they show with redis://localhost gets its URL.
document=$work/document
block() { # block FILE KIND [NUMBER]: the code of one, or of all
  awk -v fence='```'"$2" -v number="${3-}" \
    '$0 == fence { n++; inside = number == "" || n == number; next } /^```/ { inside = 0 } inside' "$src/$1"
}
with_server() { # with_server COMMAND...: it has to print something, too
  lua5.4 "$src/tests/package/with_server.lua" "$@" >"$document.out" && grep . "$document.out"
}
lua_of() { # lua_of FILE: its blocks are one program
  block "$1" lua | sed 's|"redis://localhost[^"]*"|os.getenv("REDIS_URL")|' >"$document.lua"
  # The loops are the system's; Debian has Copas, which is Lua alone, for other versions.
  ! grep 'localhost' "$document.lua" &&
    LUA_PATH="${LUA_PATH-};;/usr/share/lua/5.1/?.lua" LUA_CPATH="${LUA_CPATH-};;" with_server lua5.4 "$document.lua"
}
# A block without a main is what a C host does with a Lua state and a client.
as_program() {
  cat <<'C'
#include <lauxlib.h>
#include <lualib.h>
#include <redmoon/lua.h>
int main(void) {
  lua_State *L = luaL_newstate();
  luaL_openlibs(L);
  redmoon_client *client = NULL;
  if (redmoon_client_open(NULL, NULL, &client, NULL) != 0) return 1;
C
  cat "$1"
  cat <<'C'
  lua_setglobal(L, "client");
  int status = luaL_dostring(L, "print(assert(client:ping()), require('redmoon').version)");
  lua_close(L);
  redmoon_client_close(client);
  return status;
}
C
}
c_of() { # c_of FILE NUMBER
  block "$1" c "$2" | sed 's|"redis://localhost[^"]*"|getenv("REDIS_URL")|' >"$document.c"
  ! grep 'localhost' "$document.c" || return 1
  package=redmoon
  if ! grep -q '^int main(' "$document.c"; then
    as_program "$document.c" >"$document.host.c"
    mv "$document.host.c" "$document.c"
    package='redmoon-lua lua5.4'
  fi
  # shellcheck disable=SC2046,SC2086 # lists of words
  cc -std=c11 -Wall -Wextra -Wpedantic -Werror -include stdlib.h "$document.c" -o "$document.program" \
    $(pkg-config --cflags --libs $package) && with_server "$document.program"
}
for file in README.md $(cd "$src" && grep -lE '^```(lua|c)$' docs/*.md); do
  ! grep -q '^```lua$' "$src/$file" || check "the Lua of $file runs" lua_of "$file"
  for number in $(seq "$(grep -c '^```c$' "$src/$file")"); do
    check "C program $number of $file builds and runs" c_of "$file" "$number"
  done
done

# luarocks builds in the folder it is called in, so it gets a copy.
rock() {
  rm -rf "$work/rock" "$work/tree"
  mkdir -p "$work/rock"
  (cd "$src" && tar cf - --exclude=./build --exclude=./.git .) | tar xf - -C "$work/rock" &&
    (cd "$work/rock" && luarocks --lua-version=5.4 --tree="$work/tree" make --deps-mode=none redmoon-scm-1.rockspec) &&
    LUA_PATH="$work/tree/share/lua/5.4/?.lua;$work/tree/share/lua/5.4/?/init.lua" \
      LUA_CPATH="$work/tree/lib/lua/5.4/?.so" lua5.4 -e 'assert(require("redmoon").connect)' &&
    [ -z "$(find "$work/tree" -name '*.h' -o -name 'libredmoon*')" ]
}
readme() {
  eval "$(luarocks --lua-version=5.4 --tree="$work/tree" path)" && lua_of README.md
}
rock_tool() { "$work/tree/bin/redmoon" --version | grep . && env -u REDIS_URL "$work/tree/bin/redmoon" demo; }
unset LUA_PATH LUA_CPATH
check "luarocks make installs a module that loads, and nothing else" rock
check "the README's Lua runs from there" readme
check "the rock's tool runs" rock_tool
finish
