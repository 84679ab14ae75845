# $heading

cmake_minimum_required(VERSION 3.20.0)

# The same list: Zephyr reads the first name since 3.4, the second before.
list(APPEND EXTRA_ZEPHYR_MODULES $${CMAKE_CURRENT_SOURCE_DIR}/../..)
list(APPEND ZEPHYR_EXTRA_MODULES $${CMAKE_CURRENT_SOURCE_DIR}/../..)
find_package(Zephyr REQUIRED HINTS $$ENV{ZEPHYR_BASE})
project(${name}_selftest)

target_sources(app PRIVATE src/main.c src/$selftest)
$flags