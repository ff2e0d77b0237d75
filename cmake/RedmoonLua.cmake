# The Lua face: redmoon-core (module), redmoon-lua and redmoon-lua-static (libraries for C hosts).
# None links Lua: the host brings it.  Headers: LUA_INCLUDE_DIR (LuaRocks gives it), else pkg-config.
set(LUA_INCLUDE_DIR "" CACHE PATH "Folder of lua.h of Lua 5.4; empty: ask pkg-config")
pkg_search_module(REDMOON_HOST_LUA QUIET IMPORTED_TARGET lua5.4 lua-5.4 lua54 "lua>=5.4")
if(LUA_INCLUDE_DIR)
  set(redmoon_lua_include ${LUA_INCLUDE_DIR})
elseif(REDMOON_HOST_LUA_FOUND)
  pkg_get_variable(redmoon_lua_include ${REDMOON_HOST_LUA_MODULE_NAME} includedir)
  set(redmoon_lua_include ${REDMOON_HOST_LUA_INCLUDE_DIRS} ${redmoon_lua_include})
else()
  message(FATAL_ERROR "lua.h of Lua 5.4 was not found.  Run tools/bootstrap, or install liblua5.4-dev (Debian), lua-devel "
    "(Fedora), lua5.4-dev (Alpine) or lua (Homebrew), or give -DLUA_INCLUDE_DIR=<folder>.")
endif()

# For the JSON codec; 2.11 is the first to tell what kind of fault a text has.
pkg_check_modules(JANSSON REQUIRED IMPORTED_TARGET "jansson>=2.11")

set(REDMOON_LUA_CMODDIR "" CACHE PATH "Where redmoon/core.so is installed; empty: <libdir>/lua/5.4")
set(REDMOON_LUA_MODDIR "" CACHE PATH "Where redmoon/*.lua are installed; empty: <datadir>/lua/5.4")
set(redmoon_lua_cmoddir ${REDMOON_LUA_CMODDIR})
if(NOT redmoon_lua_cmoddir)
  set(redmoon_lua_cmoddir ${CMAKE_INSTALL_LIBDIR}/lua/5.4)
endif()
set(redmoon_lua_moddir ${REDMOON_LUA_MODDIR})
if(NOT redmoon_lua_moddir)
  set(redmoon_lua_moddir ${CMAKE_INSTALL_DATADIR}/lua/5.4)
endif()

# The build tree mirrors the installed one, so tests and demo run from it.
set(redmoon_lua_tree ${PROJECT_BINARY_DIR}/lua)
file(GLOB redmoon_lua_modules CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/lua/redmoon/*.lua)
file(GLOB redmoon_lua_loops CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/lua/redmoon/loops/*.lua)
list(FILTER redmoon_lua_modules EXCLUDE REGEX "\\.d\\.lua$")
file(MAKE_DIRECTORY ${redmoon_lua_tree}/redmoon/loops)
foreach(module ${redmoon_lua_modules} ${redmoon_lua_loops})
  file(RELATIVE_PATH name ${PROJECT_SOURCE_DIR}/lua ${module})
  file(CREATE_LINK ${module} ${redmoon_lua_tree}/${name} SYMBOLIC)
endforeach()

# The command-line tool: its modules are read from the disk, and the program finds them beside itself.
file(GLOB redmoon_cli_modules CONFIGURE_DEPENDS RELATIVE ${PROJECT_SOURCE_DIR}/lua/redmoon
  ${PROJECT_SOURCE_DIR}/lua/redmoon/cli/*.lua ${PROJECT_SOURCE_DIR}/lua/redmoon/cli/*/*.lua)
foreach(module ${redmoon_cli_modules})
  get_filename_component(folder ${redmoon_lua_tree}/redmoon/${module} DIRECTORY)
  file(MAKE_DIRECTORY ${folder})
  file(CREATE_LINK ${PROJECT_SOURCE_DIR}/lua/redmoon/${module} ${redmoon_lua_tree}/redmoon/${module} SYMBOLIC)
endforeach()

set(redmoon_generated ${PROJECT_BINARY_DIR}/generated)
add_custom_command(OUTPUT ${redmoon_generated}/lua_modules_generated.c ${redmoon_generated}/lua_modules_generated.h
  COMMAND ${CMAKE_COMMAND} -DSOURCE=${PROJECT_SOURCE_DIR}/lua/redmoon -DOUT=${redmoon_generated}
    -P ${PROJECT_SOURCE_DIR}/cmake/lua-modules.cmake
  DEPENDS ${redmoon_lua_modules} ${redmoon_lua_loops} ${PROJECT_SOURCE_DIR}/cmake/lua-modules.cmake
    ${PROJECT_SOURCE_DIR}/cmake/bytes.cmake
  COMMENT "Generating lua_modules_generated.c" VERBATIM)
add_custom_target(redmoon_lua_generated DEPENDS ${redmoon_generated}/lua_modules_generated.c)

# redmoon_lua.c is the embedding face: it and the modules' text are of no use inside the module.
file(GLOB redmoon_lua_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/lua/src/*.c)
set(redmoon_lua_face ${PROJECT_SOURCE_DIR}/lua/src/redmoon_lua.c)
list(REMOVE_ITEM redmoon_lua_sources ${redmoon_lua_face})

function(redmoon_lua target type)
  add_library(${target} ${type} ${redmoon_lua_sources})
  redmoon_compile(${target})
  target_link_libraries(${target} PRIVATE PkgConfig::JANSSON)
  add_dependencies(${target} redmoon_lua_generated)
  target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR}/lua/src ${PROJECT_SOURCE_DIR}/core/src
    ${redmoon_generated})
  target_include_directories(${target} SYSTEM PUBLIC "$<BUILD_INTERFACE:${redmoon_lua_include}>")
  if(NOT type STREQUAL "MODULE")
    target_sources(${target} PRIVATE ${redmoon_lua_face} ${redmoon_generated}/lua_modules_generated.c)
  endif()
  if(APPLE)
    target_link_options(${target} PRIVATE LINKER:-undefined,dynamic_lookup)
  endif()
endfunction()

# The module holds the core itself, so that calls between the two are optimised as within one program: a command from
# Lua costs a tenth less for it.
redmoon_lua(redmoon-core MODULE)
target_sources(redmoon-core PRIVATE ${redmoon_core_sources})
target_compile_definitions(redmoon-core PRIVATE REDMOON_STATIC)
target_include_directories(redmoon-core PRIVATE ${PROJECT_SOURCE_DIR}/core/include ${PROJECT_BINARY_DIR}/include)
redmoon_use_hiredis(redmoon-core PRIVATE)
target_link_libraries(redmoon-core PRIVATE PkgConfig::SODIUM PkgConfig::ZSTD OpenSSL::SSL OpenSSL::Crypto Threads::Threads m)
include(CheckIPOSupported)
check_ipo_supported(RESULT redmoon_ipo LANGUAGES C OUTPUT redmoon_ipo_why)
if(redmoon_ipo AND NOT redmoon_sanitize)
  set_target_properties(redmoon-core PROPERTIES INTERPROCEDURAL_OPTIMIZATION_RELEASE ON
    INTERPROCEDURAL_OPTIMIZATION_RELWITHDEBINFO ON)
endif()
redmoon_link_shared(redmoon-core ${PROJECT_SOURCE_DIR}/cmake/redmoon-core.map)
set_target_properties(redmoon-core PROPERTIES PREFIX "" OUTPUT_NAME core
  LIBRARY_OUTPUT_DIRECTORY ${redmoon_lua_tree}/redmoon)
# The entry has to be visible though the core inside is a hidden one; the version script keeps the rest in.
set_source_files_properties(${PROJECT_SOURCE_DIR}/lua/src/core.c PROPERTIES COMPILE_OPTIONS -fvisibility=default)
if(redmoon_sanitize AND NOT REDMOON_SANITIZE STREQUAL "address")
  set_target_properties(redmoon-core PROPERTIES EXCLUDE_FROM_ALL ON) # only the specs load it
endif()

if(redmoon_libraries)
  redmoon_lua(redmoon-lua SHARED)
  # The static core serves what the shared one does not show (encoders: functions without state).
  target_link_libraries(redmoon-lua PUBLIC redmoon PRIVATE $<TARGET_FILE:redmoon-static> PkgConfig::SODIUM PkgConfig::ZSTD
    OpenSSL::SSL OpenSSL::Crypto Threads::Threads m)
  add_dependencies(redmoon-lua redmoon-static)
  redmoon_link_shared(redmoon-lua ${PROJECT_SOURCE_DIR}/cmake/redmoon-lua.map)
  set_target_properties(redmoon-lua PROPERTIES VERSION ${PROJECT_VERSION}
    SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR})
  add_library(redmoon::redmoon-lua ALIAS redmoon-lua)

  redmoon_lua(redmoon-lua-static STATIC)
  target_link_libraries(redmoon-lua-static PUBLIC redmoon-static)
  set_target_properties(redmoon-lua-static PROPERTIES OUTPUT_NAME redmoon-lua)
  add_library(redmoon::redmoon-lua-static ALIAS redmoon-lua-static)
endif()

if(REDMOON_TESTS)
  redmoon_lua(redmoon_lua_testing STATIC)
  set_target_properties(redmoon_lua_testing PROPERTIES EXCLUDE_FROM_ALL ON)
  target_link_libraries(redmoon_lua_testing PUBLIC redmoon_testing)
  if(REDMOON_HOST_LUA_FOUND)
    target_link_libraries(redmoon_lua_testing PUBLIC PkgConfig::REDMOON_HOST_LUA)
  endif()
endif()
