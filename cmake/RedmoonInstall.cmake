# cmake --install: headers, libraries, pkg-config files, the CMake package `redmoon`, the Lua module.
if(REDMOON_LUA)
  install(TARGETS redmoon-core LIBRARY DESTINATION ${redmoon_lua_cmoddir}/redmoon)
  install(FILES ${redmoon_lua_modules} DESTINATION ${redmoon_lua_moddir}/redmoon)
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
