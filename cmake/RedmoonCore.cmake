# The core: redmoon (shared), redmoon-static, redmoon_testing; aliases redmoon::redmoon and redmoon::redmoon-static.
find_package(Threads REQUIRED)
find_package(OpenSSL 1.1.1 REQUIRED)
pkg_check_modules(SODIUM REQUIRED IMPORTED_TARGET libsodium)
# For cached values; 1.4 is the first whose interface is declared stable.
pkg_check_modules(ZSTD REQUIRED IMPORTED_TARGET "libzstd>=1.4")

configure_file(${PROJECT_SOURCE_DIR}/core/include/redmoon/version.h.in
  ${PROJECT_BINARY_DIR}/include/redmoon/version.h @ONLY)
file(GLOB redmoon_core_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/core/src/*/*.c)

function(redmoon_core target type)
  add_library(${target} ${type} ${redmoon_core_sources})
  redmoon_compile(${target})
  target_include_directories(${target} PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/core/include>
    $<BUILD_INTERFACE:${PROJECT_BINARY_DIR}/include> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>
    PRIVATE ${PROJECT_SOURCE_DIR}/core/src)
  target_link_libraries(${target} PRIVATE PkgConfig::SODIUM PkgConfig::ZSTD OpenSSL::SSL OpenSSL::Crypto Threads::Threads m)
endfunction()

redmoon_core(redmoon-static STATIC)
redmoon_use_hiredis(redmoon-static PRIVATE)
target_compile_definitions(redmoon-static PUBLIC REDMOON_STATIC)
set_target_properties(redmoon-static PROPERTIES OUTPUT_NAME redmoon)
add_library(redmoon::redmoon-static ALIAS redmoon-static)

# What no test needs is not built for them alone: tests/package installs a build of its own.
set(redmoon_libraries ${REDMOON_LIBRARIES})
if(REDMOON_ROCK OR redmoon_sanitize)
  set(redmoon_libraries OFF)
endif()
if(NOT redmoon_libraries)
  set_target_properties(redmoon-static PROPERTIES EXCLUDE_FROM_ALL ON)
endif()

if(redmoon_libraries)
  redmoon_core(redmoon SHARED)
  redmoon_use_hiredis(redmoon PRIVATE)
  redmoon_link_shared(redmoon ${PROJECT_SOURCE_DIR}/cmake/redmoon.map)
  set_target_properties(redmoon PROPERTIES VERSION ${PROJECT_VERSION}
    SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR})
  if(NOT APPLE)
    target_link_options(redmoon PRIVATE LINKER:--no-undefined)
  endif()
  add_library(redmoon::redmoon ALIAS redmoon)
endif()

if(REDMOON_TESTS)
  redmoon_core(redmoon_testing STATIC)
  redmoon_use_hiredis(redmoon_testing PUBLIC)
  target_compile_definitions(redmoon_testing PUBLIC REDMOON_TESTING REDMOON_STATIC)
  target_include_directories(redmoon_testing PUBLIC ${PROJECT_SOURCE_DIR}/core/src)
  target_link_libraries(redmoon_testing PUBLIC PkgConfig::SODIUM PkgConfig::ZSTD OpenSSL::SSL OpenSSL::Crypto Threads::Threads m)
endif()
