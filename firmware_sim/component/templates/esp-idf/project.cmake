# $heading

cmake_minimum_required(VERSION 3.16)

set(EXTRA_COMPONENT_DIRS $${CMAKE_CURRENT_LIST_DIR}/../..)
set(COMPONENTS main) # and what it requires: not every component can be built for every target
include($$ENV{IDF_PATH}/tools/cmake/project.cmake)
project(${name}_selftest)
