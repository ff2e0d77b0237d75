# Tests.  The name is <kind>/<file>; kinds are labels.  tools/test sums what they count.
#
#   tests/{unit,wire,server,fault,regress,lua}/test_*.c   cmocka, one program each, with tests/support/*.c
#   tests/examples/test_*.c                               the same, of examples/*.c, which are built as they stand
#   tests/soak/*.c                                        programs that print "N passed, N failed, N skipped"; lua_*.c host Lua
#   tests/fuzz/fuzz_*.c                                   libFuzzer targets (REDMOON_SANITIZE=fuzzer)
#   tests/{lua,scripts}/*_spec.lua                        busted, under the system's Lua
#   tests/package/*.sh                                    what an installed tree has to satisfy
#   servers/<server>/<kind>/<file>                          tests/{server,scripts,lua} again, on each newer server (tools/servers)
#   cluster/<file>                                        tests/{server,lua} again, in a cluster in the place of a server (label cluster)
# Under thread sanitizer only what has threads is run: soak, files whose name contains "threads", and those named here.
# Not fault/test_fork: a child of a process with threads that starts a thread itself is beyond that sanitizer ("dup thread with used id").
# Nor soak/lock_fences, soak/queue_crashes, soak/cache_stampede, soak/sentinel_partition and soak/topic_losses: they are of processes, and the sanitizer sees nothing of what happens between them.
pkg_check_modules(CMOCKA IMPORTED_TARGET cmocka)
file(GLOB redmoon_test_support CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/support/*.c)
set(redmoon_test_timeout 300)
if(redmoon_sanitize)
  set(redmoon_test_timeout 600)
endif()

# Programs of other names that make threads.
set(redmoon_threaded blocklist counter embedded host lock lock_holds lock_renewal multiplex multiplex_ends own_loop pool_real queue rate_limiter records redlock redlock_ends rwlock script semaphore sentinel_failover sessions stream_queue
  subscription subscription_link topic topic_durable wakeups)
list(JOIN redmoon_threaded "|" redmoon_threaded)
set(redmoon_threaded "threads|^test_(${redmoon_threaded})$")

function(redmoon_add_test kind name)
  add_test(NAME ${kind}/${name} COMMAND ${ARGN} WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
  set(labels ${kind})
  if(kind STREQUAL "soak" OR name MATCHES "${redmoon_threaded}")
    list(APPEND labels threads)
  endif()
  set_tests_properties(${kind}/${name} PROPERTIES LABELS "${labels}" TIMEOUT ${redmoon_test_timeout})
  if(kind MATCHES "^(server|scripts|lua)$" AND NOT redmoon_sanitize)
    redmoon_test_on_servers(${kind}/${name} ${ARGN})
  endif()
endfunction()

file(GLOB redmoon_newer_servers ${PROJECT_SOURCE_DIR}/.deps/servers/*/server)
# Valkey 8 stands between the others: the programs in C are enough there.
function(redmoon_servers_for name out)
  set(servers ${redmoon_newer_servers})
  if(name MATCHES "_spec$")
    list(FILTER servers EXCLUDE REGEX "/valkey-8/server$")
  endif()
  set(${out} ${servers} PARENT_SCOPE)
endfunction()

function(redmoon_test_on_servers name)
  redmoon_servers_for(${name} servers)
  foreach(program ${servers})
    get_filename_component(server ${program} DIRECTORY)
    get_filename_component(server ${server} NAME)
    add_test(NAME servers/${server}/${name} COMMAND ${ARGN} WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
    set_tests_properties(servers/${server}/${name} PROPERTIES LABELS servers TIMEOUT ${redmoon_test_timeout}
      ENVIRONMENT "REDMOON_TEST_SERVER=${program};${redmoon_lua_env}")
  endforeach()
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

# The examples in C that tests/examples looks at.
if(REDMOON_LUA AND NOT REDMOON_SANITIZE STREQUAL "fuzzer")
  add_executable(example_host ${PROJECT_SOURCE_DIR}/examples/host.c ${PROJECT_SOURCE_DIR}/examples/host_http.c)
  add_executable(example_own_loop ${PROJECT_SOURCE_DIR}/examples/own_loop.c)
  foreach(example host own_loop)
    redmoon_compile(example_${example})
    target_link_libraries(example_${example} PRIVATE redmoon_lua_testing)
  endforeach()
endif()

if(NOT REDMOON_SANITIZE STREQUAL "fuzzer")
  set(kinds unit wire server fault regress)
  if(REDMOON_LUA)
    list(APPEND kinds lua examples)
  endif()
  foreach(kind ${kinds})
    file(GLOB sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/${kind}/test_*.c)
    foreach(source ${sources})
      if(NOT CMOCKA_FOUND)
        message(FATAL_ERROR "cmocka was not found.  Run tools/bootstrap, or configure with -DREDMOON_TESTS=OFF.")
      endif()
      get_filename_component(name ${source} NAME_WE)
      if(REDMOON_SANITIZE STREQUAL "thread" AND NOT name MATCHES "${redmoon_threaded}")
        continue()
      endif()
      redmoon_test_program(${kind}_${name} ${source})
      target_link_libraries(${kind}_${name} PRIVATE PkgConfig::CMOCKA)
      if(kind STREQUAL "lua")
        target_link_libraries(${kind}_${name} PRIVATE redmoon_lua_testing)
      elseif(kind STREQUAL "examples")
        add_dependencies(${kind}_${name} example_host example_own_loop)
        target_compile_definitions(${kind}_${name} PRIVATE EXAMPLE_HOST="$<TARGET_FILE:example_host>"
          EXAMPLE_OWN_LOOP="$<TARGET_FILE:example_own_loop>" EXAMPLES="${PROJECT_SOURCE_DIR}/examples"
          OWN_SCRIPT="${PROJECT_SOURCE_DIR}/tests/examples/host_script.lua")
      endif()
      redmoon_add_test(${kind} ${name} ${kind}_${name})
    endforeach()
  endforeach()

  file(GLOB sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/soak/*.c)
  foreach(source ${sources})
    get_filename_component(name ${source} NAME_WE)
    if(name MATCHES "^lua_" AND NOT REDMOON_LUA)
      continue()
    endif()
    if(name MATCHES "^(lock_fences|queue_crashes|cache_stampede|sentinel_partition|topic_losses)$" AND REDMOON_SANITIZE STREQUAL "thread")
      continue()
    endif()
    redmoon_test_program(soak_${name} ${source})
    if(name MATCHES "^lua_")
      target_link_libraries(soak_${name} PRIVATE redmoon_lua_testing)
    endif()
    redmoon_add_test(soak ${name} soak_${name})
    set_tests_properties(soak/${name} PROPERTIES TIMEOUT 900)
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

# Lua specs.  Those of the scripts hold none of our C, so one build is enough for them.  busted is given to lua5.4 by hand: its own first line would take the system's default Lua.
if(REDMOON_LUA AND NOT REDMOON_SANITIZE MATCHES "thread|fuzzer")
  find_program(REDMOON_LUA_PROGRAM NAMES lua5.4 lua54 lua)
  find_program(REDMOON_BUSTED NAMES busted)
  set(redmoon_lua_env
    "LUA_PATH=${redmoon_lua_tree}/?.lua\;${redmoon_lua_tree}/?/init.lua\;${PROJECT_SOURCE_DIR}/tests/lua/?.lua\;\;/usr/share/lua/5.1/?.lua"
    "LUA_CPATH=${redmoon_lua_tree}/?.so\;\;" "REDMOON_BUILD_DIR=${PROJECT_BINARY_DIR}")
  if(REDMOON_SANITIZE STREQUAL "address")
    # The system's Lua is not built with the sanitizer, so its runtime has to come first.
    execute_process(COMMAND ${CMAKE_C_COMPILER} -print-file-name=libasan.so OUTPUT_VARIABLE asan
      OUTPUT_STRIP_TRAILING_WHITESPACE)
    list(APPEND redmoon_lua_env "LD_PRELOAD=${asan}")
  endif()
  set(kinds lua)
  if(NOT redmoon_sanitize)
    list(APPEND kinds scripts)
  endif()
  foreach(kind ${kinds})
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

# They count the connections of single calls, or say themselves whether they share.
set(redmoon_not_multiplexed "^(options_effect|multiplex)_spec$")
# They hold no client, or run the tool, or loops of their own, or look at the place where connect raises.
set(redmoon_not_in_loops "^(cluster_fixture|json|types|acl|embedded|hosts|loop|loop_gc|multiplex|on_message|options|wakeups|cli.*)_spec$")
# The same specs, each in a coroutine of an event loop.  Copas is Lua alone; Debian has it for other versions.
if(REDMOON_LUA AND NOT redmoon_sanitize)
  file(GLOB specs CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/lua/*_spec.lua)
  foreach(loop cqueues luv copas)
    foreach(spec ${specs})
      get_filename_component(name ${spec} NAME_WE)
      if(name MATCHES "${redmoon_not_in_loops}")
        continue()
      endif()
      redmoon_add_test(loops/${loop} ${name} ${REDMOON_LUA_PROGRAM} ${PROJECT_SOURCE_DIR}/tests/support/run_in_loop.lua ${loop}
        ${REDMOON_BUSTED} --no-auto-insulate --output=${PROJECT_SOURCE_DIR}/tools/busted-output.lua ${spec})
      set_tests_properties(loops/${loop}/${name} PROPERTIES LABELS loops
        ENVIRONMENT "${redmoon_lua_env};REDMOON_TEST_LOOP=${loop}")
      if(loop STREQUAL "cqueues" AND NOT name MATCHES "${redmoon_not_multiplexed}")
        redmoon_add_test(loops/multiplex ${name} ${REDMOON_LUA_PROGRAM} ${PROJECT_SOURCE_DIR}/tests/support/run_in_loop.lua ${loop}
          ${REDMOON_BUSTED} --no-auto-insulate --output=${PROJECT_SOURCE_DIR}/tools/busted-output.lua ${spec})
        set_tests_properties(loops/multiplex/${name} PROPERTIES LABELS loops
          ENVIRONMENT "${redmoon_lua_env};REDMOON_TEST_LOOP=${loop};REDMOON_TEST_MULTIPLEX=1")
      endif()
    endforeach()
  endforeach()
endif()

# What is the same in a cluster: specs, and programs that have their server by tests/support/matrix.c or embedded_server.c.
set(redmoon_programs_in_clusters blocklist blocklist_faults cache cache_loads cache_threads command counter fence_guard list_queue lock
  lock_fair patterns pipeline queue rate_decisions rate_limiter records rwlock scan script semaphore sessions stream_queue subscription
  topic transaction)
set(redmoon_specs_in_clusters blocklist cache client conventions counter gc list_queue lock pipeline queue rate_limiter records scan script
  semaphore sessions set stream_queue subscribe topic transaction)
function(redmoon_test_on_cluster name env)
  redmoon_servers_for(${name} servers)
  foreach(program "" ${servers})
    set(prefix "")
    set(labels cluster)
    set(which "REDMOON_TEST_CLUSTER=1")
    if(program)
      get_filename_component(server ${program} DIRECTORY)
      get_filename_component(server ${server} NAME)
      set(prefix servers/${server}/)
      list(APPEND labels servers)
      list(APPEND which "REDMOON_TEST_SERVER=${program}")
    endif()
    set(environment "${which}")
    if(NOT env STREQUAL "")
      set(environment "${${env}};${which}")
    endif()
    add_test(NAME ${prefix}cluster/${name} COMMAND ${ARGN} WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
    set_tests_properties(${prefix}cluster/${name} PROPERTIES LABELS "${labels}" TIMEOUT ${redmoon_test_timeout}
      ENVIRONMENT "${environment}")
  endforeach()
endfunction()
if(NOT redmoon_sanitize)
  foreach(name ${redmoon_programs_in_clusters})
    redmoon_test_on_cluster(test_${name} "" server_test_${name})
  endforeach()
endif()
if(REDMOON_LUA AND NOT redmoon_sanitize)
  foreach(name ${redmoon_specs_in_clusters})
    redmoon_test_on_cluster(${name}_spec redmoon_lua_env ${REDMOON_LUA_PROGRAM} ${REDMOON_BUSTED} --no-auto-insulate
      --output=${PROJECT_SOURCE_DIR}/tools/busted-output.lua ${PROJECT_SOURCE_DIR}/tests/lua/${name}_spec.lua)
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
  set_tests_properties(package/foreign_hiredis PROPERTIES DEPENDS package/install) # whose build it takes
  # What takes longest begins first.
  set_tests_properties(package/install PROPERTIES COST 300)
  set_tests_properties(lint/style fault/test_crosstalk PROPERTIES COST 100)
endif()
