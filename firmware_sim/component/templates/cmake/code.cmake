# $heading
#
# add_subdirectory(this_folder), or install it and find_package($name); then
# target_link_libraries(your_target PRIVATE $name::$name)

cmake_minimum_required(VERSION 3.16)
project($name VERSION $version LANGUAGES C)

include(CMakePackageConfigHelpers)
include(GNUInstallDirs)

add_library($name STATIC
$sources
)
add_library($name::$name ALIAS $name)
set_target_properties($name PROPERTIES C_STANDARD 99 C_STANDARD_REQUIRED ON C_EXTENSIONS OFF)
target_include_directories($name PUBLIC
  $$<BUILD_INTERFACE:$${CMAKE_CURRENT_SOURCE_DIR}/src>
  $$<INSTALL_INTERFACE:$${CMAKE_INSTALL_INCLUDEDIR}/$name>
)

install(TARGETS $name EXPORT ${name}Config ARCHIVE DESTINATION $${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY src/ DESTINATION $${CMAKE_INSTALL_INCLUDEDIR}/$name FILES_MATCHING PATTERN "*.h")
install(EXPORT ${name}Config NAMESPACE ${name}:: DESTINATION $${CMAKE_INSTALL_LIBDIR}/cmake/$name)
write_basic_package_version_file(${name}ConfigVersion.cmake COMPATIBILITY ExactVersion)
install(FILES $${CMAKE_CURRENT_BINARY_DIR}/${name}ConfigVersion.cmake
  DESTINATION $${CMAKE_INSTALL_LIBDIR}/cmake/$name)

if(CMAKE_SOURCE_DIR STREQUAL CMAKE_CURRENT_SOURCE_DIR)
  enable_testing()
  add_subdirectory(example)
  add_test(NAME selftest COMMAND ${name}_selftest)
endif()
