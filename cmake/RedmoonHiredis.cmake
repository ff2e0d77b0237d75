# hiredis >= 1.2, of which only the reader is used: target redmoon_hiredis, headers as <hiredis/read.h>.
#
# The system's where it is new enough, else the release's source: compiled here (its own CMakeLists would add install
# rules and cannot hide symbols) with every symbol renamed, so that it cannot meet another hiredis in the same process.
# redmoon_hiredis_sources: object files to be put into our libraries (bundled only).
set(REDMOON_HIREDIS_URL "" CACHE STRING "Tarball of hiredis 1.2.0: path or URL; empty: .deps/ (tools/bootstrap)")
set(redmoon_hiredis_sha256 82ad632d31ee05da13b537c124f819eb88e18851d9cb0c30ae0552084811588c)
set(redmoon_hiredis_sources)
set(redmoon_hiredis_requires)

if(NOT REDMOON_HIREDIS MATCHES "^(auto|system|bundled)$")
  message(FATAL_ERROR "REDMOON_HIREDIS is \"${REDMOON_HIREDIS}\"; accepted: auto, system, bundled")
endif()
find_package(PkgConfig REQUIRED)

if(REDMOON_HIREDIS MATCHES "auto|system" AND NOT FETCHCONTENT_SOURCE_DIR_HIREDIS)
  pkg_check_modules(REDMOON_SYSTEM_HIREDIS QUIET IMPORTED_TARGET "hiredis>=1.2")
  if(REDMOON_SYSTEM_HIREDIS_FOUND)
    add_library(redmoon_hiredis INTERFACE)
    target_link_libraries(redmoon_hiredis INTERFACE PkgConfig::REDMOON_SYSTEM_HIREDIS)
    set(redmoon_hiredis_requires "hiredis >= 1.2")
  elseif(REDMOON_HIREDIS STREQUAL "system")
    message(FATAL_ERROR "REDMOON_HIREDIS=system, but pkg-config knows no hiredis >= 1.2; use bundled, or install it")
  endif()
endif()

if(NOT TARGET redmoon_hiredis)
  set(tarball "${REDMOON_HIREDIS_URL}")
  if(tarball STREQUAL "")
    set(tarball ${PROJECT_SOURCE_DIR}/.deps/hiredis_1.2.0.orig.tar.gz)
    if(NOT EXISTS ${tarball} AND NOT FETCHCONTENT_SOURCE_DIR_HIREDIS)
      message(FATAL_ERROR "hiredis >= 1.2 was not found.  Run tools/bootstrap, which puts its source into .deps/, or give "
        "-DREDMOON_HIREDIS_URL=<tarball of 1.2.0> or -DFETCHCONTENT_SOURCE_DIR_HIREDIS=<unpacked folder>.")
    endif()
  endif()
  include(FetchContent)
  FetchContent_Declare(hiredis URL ${tarball} URL_HASH SHA256=${redmoon_hiredis_sha256}
    DOWNLOAD_EXTRACT_TIMESTAMP TRUE SOURCE_SUBDIR do-not-use-its-cmakelists)
  FetchContent_MakeAvailable(hiredis)
  set(redmoon_hiredis_include ${PROJECT_BINARY_DIR}/hiredis-include)
  file(MAKE_DIRECTORY ${redmoon_hiredis_include})
  file(CREATE_LINK ${hiredis_SOURCE_DIR} ${redmoon_hiredis_include}/hiredis SYMBOLIC)

  add_library(redmoon_hiredis OBJECT ${hiredis_SOURCE_DIR}/alloc.c ${hiredis_SOURCE_DIR}/read.c
    ${hiredis_SOURCE_DIR}/sds.c)
  set_target_properties(redmoon_hiredis PROPERTIES C_STANDARD 99 C_VISIBILITY_PRESET hidden
    POSITION_INDEPENDENT_CODE ON C_CLANG_TIDY "")
  target_compile_options(redmoon_hiredis PRIVATE -w)
  target_compile_options(redmoon_hiredis PUBLIC -include ${PROJECT_SOURCE_DIR}/cmake/hiredis-names.h)
  target_include_directories(redmoon_hiredis SYSTEM INTERFACE ${redmoon_hiredis_include})
  set(redmoon_hiredis_sources $<TARGET_OBJECTS:redmoon_hiredis>)
endif()

# Gives a target of ours the reader; with PUBLIC, whoever links it gets the headers too.
function(redmoon_use_hiredis target scope)
  if(redmoon_hiredis_sources)
    target_include_directories(${target} SYSTEM ${scope} ${redmoon_hiredis_include})
    target_compile_options(${target} ${scope} -include ${PROJECT_SOURCE_DIR}/cmake/hiredis-names.h)
    target_sources(${target} PRIVATE ${redmoon_hiredis_sources})
  else()
    target_link_libraries(${target} ${scope} redmoon_hiredis)
  endif()
endfunction()
