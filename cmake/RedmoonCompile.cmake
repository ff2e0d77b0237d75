# Language, warnings, hardening and sanitizers of everything that is ours: redmoon_compile(target).
set(redmoon_warnings -Wall -Wextra -Wpedantic -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wwrite-strings
  -Wconversion)
if(REDMOON_WERROR)
  list(APPEND redmoon_warnings -Werror)
  # Which of these GCC sees depends on what it happens to inline, so it differs between builds: shown, not an error.
  if(CMAKE_C_COMPILER_ID STREQUAL "GNU")
    list(APPEND redmoon_warnings -Wno-error=maybe-uninitialized)
  endif()
endif()

if(REDMOON_SANITIZE STREQUAL "address")
  set(redmoon_sanitize -fsanitize=address,undefined -fno-sanitize-recover=undefined)
elseif(REDMOON_SANITIZE STREQUAL "thread")
  set(redmoon_sanitize -fsanitize=thread)
elseif(REDMOON_SANITIZE STREQUAL "fuzzer")
  if(NOT CMAKE_C_COMPILER_ID MATCHES "Clang")
    message(FATAL_ERROR "REDMOON_SANITIZE=fuzzer needs clang (this is ${CMAKE_C_COMPILER_ID}): use the preset `fuzz`")
  endif()
  set(redmoon_sanitize -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined)
elseif(NOT REDMOON_SANITIZE STREQUAL "")
  message(FATAL_ERROR "REDMOON_SANITIZE is \"${REDMOON_SANITIZE}\"; accepted: empty, address, thread, fuzzer")
endif()
if(redmoon_sanitize)
  add_compile_options(${redmoon_sanitize} -fno-omit-frame-pointer)
  add_link_options(${redmoon_sanitize})
endif()

function(redmoon_compile target)
  set_target_properties(${target} PROPERTIES C_STANDARD 11 C_STANDARD_REQUIRED ON C_EXTENSIONS OFF
    C_VISIBILITY_PRESET hidden POSITION_INDEPENDENT_CODE ON)
  target_compile_definitions(${target} PRIVATE _POSIX_C_SOURCE=200809L _DEFAULT_SOURCE)
  target_compile_options(${target} PRIVATE ${redmoon_warnings})
  if(NOT redmoon_sanitize)
    target_compile_options(${target} PRIVATE -fno-plt -fstack-protector-strong
      $<$<CONFIG:Release,RelWithDebInfo>:-U_FORTIFY_SOURCE> $<$<CONFIG:Release,RelWithDebInfo>:-D_FORTIFY_SOURCE=2>)
  endif()
endfunction()

# What a shared object of ours is linked with, besides its version script.  A thread that looks up a name may outlive its
# client, and so a dlclose() by the host: the code stays mapped (nodelete).
function(redmoon_link_shared target script)
  if(NOT APPLE)
    target_link_options(${target} PRIVATE "LINKER:--version-script=${script}" LINKER:--exclude-libs,ALL
      LINKER:-z,relro,-z,now LINKER:-z,nodelete LINKER:--as-needed)
    set_property(TARGET ${target} APPEND PROPERTY LINK_DEPENDS ${script})
  endif()
endfunction()
