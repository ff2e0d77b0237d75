# Tests.  The name is <kind>/<file>; kinds are labels.  tools/test sums what they count.
#
#   tests/{unit,wire,server,fault,regress,lua}/test_*.c   cmocka, one program each, with tests/support/*.c
#   tests/soak/*.c                                        programs that print "N passed, N failed, N skipped"
#   tests/fuzz/fuzz_*.c                                   libFuzzer targets (REDMOON_SANITIZE=fuzzer)
#   tests/{lua,scripts}/*_spec.lua                        busted, under the system's Lua
#   tests/package/*.sh                                    what an installed tree has to satisfy
# Under thread sanitizer only what has threads is run: soak, and files whose name contains "threads".
pkg_check_modules(CMOCKA IMPORTED_TARGET cmocka)
file(GLOB redmoon_test_support CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/support/*.c)
set(redmoon_test_timeout 120)
if(redmoon_sanitize)
  set(redmoon_test_timeout 300)
endif()

function(redmoon_add_test kind name)
  add_test(NAME ${kind}/${name} COMMAND ${ARGN} WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
  set(labels ${kind})
  if(kind STREQUAL "soak" OR name MATCHES "threads")
    list(APPEND labels threads)
  endif()
  set_tests_properties(${kind}/${name} PROPERTIES LABELS "${labels}" TIMEOUT ${redmoon_test_timeout})
endfunction()

if(NOT REDMOON_SANITIZE STREQUAL "fuzzer")
  add_library(redmoon_test_support STATIC ${redmoon_test_support})
  redmoon_compile(redmoon_test_support)
  target_include_directories(redmoon_test_support PUBLIC ${PROJECT_SOURCE_DIR}/tests)
  target_link_libraries(redmoon_test_support PUBLIC redmoon_testing)
endif()

function(redmoon_test_program target source)
  add_executable(${target} ${source})
  redmoon_compile(${target})
  target_link_libraries(${target} PRIVATE redmoon_test_support)
endfunction()

if(NOT REDMOON_SANITIZE STREQUAL "fuzzer")
  set(kinds unit wire server fault regress)
  if(REDMOON_LUA)
    list(APPEND kinds lua)
  endif()
  foreach(kind ${kinds})
    file(GLOB sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/${kind}/test_*.c)
    foreach(source ${sources})
      if(NOT CMOCKA_FOUND)
        message(FATAL_ERROR "cmocka was not found.  Run tools/bootstrap, or configure with -DREDMOON_TESTS=OFF.")
      endif()
      get_filename_component(name ${source} NAME_WE)
      redmoon_test_program(${kind}_${name} ${source})
      target_link_libraries(${kind}_${name} PRIVATE PkgConfig::CMOCKA)
      if(kind STREQUAL "lua")
        target_link_libraries(${kind}_${name} PRIVATE redmoon_lua_testing)
      endif()
      redmoon_add_test(${kind} ${name} ${kind}_${name})
    endforeach()
  endforeach()

  file(GLOB sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/soak/*.c)
  foreach(source ${sources})
    get_filename_component(name ${source} NAME_WE)
    redmoon_test_program(soak_${name} ${source})
    redmoon_add_test(soak ${name} soak_${name})
  endforeach()
endif()

if(REDMOON_SANITIZE STREQUAL "fuzzer")
  set(REDMOON_FUZZ_SECONDS 20 CACHE STRING "How long ctest runs each fuzz target after its corpus")
  file(GLOB sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/fuzz/fuzz_*.c)
  foreach(source ${sources})
    get_filename_component(name ${source} NAME_WE)
    add_executable(${name} ${source})
    redmoon_compile(${name})
    target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/tests)
    target_link_libraries(${name} PRIVATE redmoon_testing)
    target_link_options(${name} PRIVATE -fsanitize=fuzzer)
    redmoon_add_test(fuzz ${name} ${PROJECT_SOURCE_DIR}/tools/fuzz $<TARGET_FILE:${name}>
      ${PROJECT_SOURCE_DIR}/tests/fuzz/corpus/${name} ${REDMOON_FUZZ_SECONDS})
  endforeach()
endif()

# Lua specs.  busted is given to lua5.4 by hand: its own first line would take the system's default Lua.
if(REDMOON_LUA AND NOT REDMOON_SANITIZE MATCHES "thread|fuzzer")
  find_program(REDMOON_LUA_PROGRAM NAMES lua5.4 lua54 lua)
  find_program(REDMOON_BUSTED NAMES busted)
  set(redmoon_lua_env
    "LUA_PATH=${redmoon_lua_tree}/?.lua\;${redmoon_lua_tree}/?/init.lua\;${PROJECT_SOURCE_DIR}/tests/lua/?.lua\;\;"
    "LUA_CPATH=${redmoon_lua_tree}/?.so\;\;" "REDMOON_BUILD_DIR=${PROJECT_BINARY_DIR}")
  if(REDMOON_SANITIZE STREQUAL "address")
    # The system's Lua is not built with the sanitizer, so its runtime has to come first.
    execute_process(COMMAND ${CMAKE_C_COMPILER} -print-file-name=libasan.so OUTPUT_VARIABLE asan
      OUTPUT_STRIP_TRAILING_WHITESPACE)
    list(APPEND redmoon_lua_env "LD_PRELOAD=${asan}")
  endif()
  foreach(kind lua scripts)
    file(GLOB_RECURSE specs CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/${kind}/*_spec.lua)
    foreach(spec ${specs})
      if(NOT REDMOON_BUSTED OR NOT REDMOON_LUA_PROGRAM)
        message(FATAL_ERROR "lua5.4 or busted was not found.  Run tools/bootstrap, or configure with -DREDMOON_TESTS=OFF.")
      endif()
      get_filename_component(name ${spec} NAME_WE)
      redmoon_add_test(${kind} ${name} ${REDMOON_LUA_PROGRAM} ${REDMOON_BUSTED} --no-auto-insulate
        --output=${PROJECT_SOURCE_DIR}/tools/busted-output.lua ${spec})
      set_tests_properties(${kind}/${name} PROPERTIES ENVIRONMENT "${redmoon_lua_env}")
    endforeach()
  endforeach()
endif()

# What needs one build only.
if(NOT redmoon_sanitize)
  redmoon_add_test(lint generated ${PROJECT_SOURCE_DIR}/tools/generate --check)
  redmoon_add_test(lint style ${PROJECT_SOURCE_DIR}/tools/lint)
  file(GLOB checks CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/package/*.sh)
  foreach(check ${checks})
    get_filename_component(name ${check} NAME_WE)
    redmoon_add_test(package ${name} sh ${check} ${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR}/package)
    set_tests_properties(package/${name} PROPERTIES TIMEOUT 600)
  endforeach()
endif()
