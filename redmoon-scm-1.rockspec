rockspec_format = "3.0"
package = "redmoon"
version = "scm-1"
source = {
  url = "git+file://.",
}
description = {
  summary = "Redis, safe and fast: pooling, deadlines, transactions, locks, rate limits",
  detailed = [[
A C core with pooled connections, one deadline per call and errors that say whether a command was executed; on top of it
locks with fences and exact rate limits whose every operation is atomic.]],
  license = "MIT",
  labels = { "redis", "database", "lock", "networking" },
}
dependencies = {
  "lua >= 5.4, < 5.5",
  "argparse >= 0.7", -- the command-line tool
}
-- hiredis is found, or compiled in, by CMake: see cmake/RedmoonHiredis.cmake.
external_dependencies = {
  JANSSON = { header = "jansson.h", library = "jansson" },
  SODIUM = { header = "sodium.h", library = "sodium" },
  OPENSSL = { header = "openssl/ssl.h", library = "ssl" },
  ZSTD = { header = "zstd.h", library = "zstd" },
}
build = {
  type = "cmake",
  variables = {
    CMAKE_BUILD_TYPE = "Release",
    CMAKE_C_FLAGS = "$(CFLAGS)",
    CMAKE_INSTALL_PREFIX = "$(PREFIX)",
    LUA_INCLUDE_DIR = "$(LUA_INCDIR)",
    REDMOON_LUA_CMODDIR = "$(LIBDIR)",
    REDMOON_LUA_MODDIR = "$(LUADIR)",
    REDMOON_ROCK = "ON",
    REDMOON_TESTS = "OFF",
  },
  install = { bin = { redmoon = "lua/bin/redmoon" } },
}
test = {
  type = "command",
  command = "tools/test --quick",
}
