# $heading
#
# With $name in the same build, or installed (then CMAKE_PREFIX_PATH may have to name the place).

cmake_minimum_required(VERSION 3.16)
project(${name}_selftest LANGUAGES $languages)

if(NOT TARGET $name::$name)
  find_package($name REQUIRED)
endif()

add_executable(${name}_selftest main.c $selftest)
target_link_libraries(${name}_selftest PRIVATE $name::$name)
