# cmake --install: headers, libraries, pkg-config files, the CMake package `redmoon`, the Lua module, the program.

# bin/redmoon: the script, with the way from its folder to the Lua module written in.
function(redmoon_install_program)
  set(prefix /prefix) # any: only the way from one to the other counts
  set(paths "")
  foreach(folder ${redmoon_lua_moddir} ${redmoon_lua_cmoddir})
    if(NOT IS_ABSOLUTE ${folder} AND NOT IS_ABSOLUTE ${CMAKE_INSTALL_BINDIR})
      cmake_path(ABSOLUTE_PATH folder BASE_DIRECTORY ${prefix} NORMALIZE)
      cmake_path(RELATIVE_PATH folder BASE_DIRECTORY ${prefix}/${CMAKE_INSTALL_BINDIR})
    endif()
    list(APPEND paths "\"${folder}\"")
  endforeach()
  list(JOIN paths ", " paths)
  file(READ ${PROJECT_SOURCE_DIR}/lua/bin/redmoon text)
  string(REPLACE "local modules, libraries = \"..\", \"..\"" "local modules, libraries = ${paths}" installed "${text}")
  if(installed STREQUAL text)
    message(FATAL_ERROR "lua/bin/redmoon: the line with the folders was not found")
  endif()
  find_program(REDMOON_LUA_PROGRAM NAMES lua5.4 lua54 lua)
  if(REDMOON_LUA_PROGRAM)
    get_filename_component(lua ${REDMOON_LUA_PROGRAM} NAME)
    string(REPLACE "#!/usr/bin/env lua5.4" "#!/usr/bin/env ${lua}" installed "${installed}")
  endif()
  file(CONFIGURE OUTPUT ${PROJECT_BINARY_DIR}/bin/redmoon CONTENT "${installed}" @ONLY)
  install(PROGRAMS ${PROJECT_BINARY_DIR}/bin/redmoon DESTINATION ${CMAKE_INSTALL_BINDIR})
endfunction()

if(REDMOON_LUA)
  install(TARGETS redmoon-core LIBRARY DESTINATION ${redmoon_lua_cmoddir}/redmoon)
  install(FILES ${redmoon_lua_modules} DESTINATION ${redmoon_lua_moddir}/redmoon)
  foreach(module ${redmoon_cli_modules})
    get_filename_component(folder ${module} DIRECTORY)
    install(FILES ${PROJECT_SOURCE_DIR}/lua/redmoon/${module} DESTINATION ${redmoon_lua_moddir}/redmoon/${folder})
  endforeach()
  if(NOT REDMOON_ROCK) # LuaRocks installs programs itself
    redmoon_install_program()
  endif()
  install(FILES ${redmoon_lua_loops} DESTINATION ${redmoon_lua_moddir}/redmoon/loops)
endif()
if(REDMOON_ROCK)
  return()
endif()

include(CMakePackageConfigHelpers)
set(targets redmoon redmoon-static)
if(REDMOON_LUA)
  list(APPEND targets redmoon-lua redmoon-lua-static)
endif()
install(TARGETS ${targets} EXPORT redmoon-targets
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
  RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(DIRECTORY ${PROJECT_SOURCE_DIR}/core/include/redmoon DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
  FILES_MATCHING PATTERN "*.h")
install(FILES ${PROJECT_BINARY_DIR}/include/redmoon/version.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/redmoon)

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/redmoon)
install(EXPORT redmoon-targets NAMESPACE redmoon:: DESTINATION ${package_dir} FILE redmoonTargets.cmake)
configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/redmoonConfig.cmake.in
  ${PROJECT_BINARY_DIR}/redmoonConfig.cmake INSTALL_DESTINATION ${package_dir})
# Until 1.0 a minor version may change anything.
write_basic_package_version_file(${PROJECT_BINARY_DIR}/redmoonConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/redmoonConfig.cmake ${PROJECT_BINARY_DIR}/redmoonConfigVersion.cmake
  DESTINATION ${package_dir})

function(redmoon_pkgconfig name)
  configure_file(${PROJECT_SOURCE_DIR}/cmake/${name}.pc.in ${PROJECT_BINARY_DIR}/${name}.pc @ONLY)
  install(FILES ${PROJECT_BINARY_DIR}/${name}.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
endfunction()
redmoon_pkgconfig(redmoon)
if(REDMOON_LUA)
  redmoon_pkgconfig(redmoon-lua)
endif()
