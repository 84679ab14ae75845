# As much of Zephyr's build system as a module needs: it becomes a library, and the application a program.

project(Zephyr LANGUAGES C)

file(STRINGS ${CMAKE_CURRENT_SOURCE_DIR}/prj.conf options REGEX "^CONFIG_")
foreach(option ${options})
  string(REGEX MATCH "^([^=]*)=(.*)$" unused ${option})
  set(${CMAKE_MATCH_1} ${CMAKE_MATCH_2})
endforeach()

function(zephyr_library_named name)
  add_library(${name} STATIC)
  set(library ${name} PARENT_SCOPE)
endfunction()

macro(zephyr_library_sources)
  target_sources(${library} PRIVATE ${ARGN})
endmacro()

macro(zephyr_library_cc_option)
  target_compile_options(${library} PRIVATE ${ARGN})
endmacro()

macro(zephyr_include_directories)
  target_include_directories(${library} PUBLIC ${ARGN})
endmacro()

include_directories(${CMAKE_CURRENT_LIST_DIR}/../../../include)
add_executable(app)
set(number 0)
foreach(module ${${LIST}})
  get_filename_component(module ${module} ABSOLUTE)
  math(EXPR number "${number} + 1")
  file(STRINGS ${module}/zephyr/module.yml folder REGEX "^  cmake: ")
  string(REPLACE "  cmake: " "" folder ${folder})
  file(STRINGS ${module}/zephyr/module.yml name REGEX "^name: ")
  string(REPLACE "name: " "" name ${name})
  add_subdirectory(${module}/${folder} module${number})
  target_link_libraries(app PRIVATE ${name})
endforeach()
