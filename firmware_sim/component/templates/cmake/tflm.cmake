# $heading
#
# set(TFLM_TARGET target_of_tensorflow_lite_micro), then
# add_subdirectory(this_folder) and target_link_libraries(your_target PRIVATE $name::$name)

cmake_minimum_required(VERSION 3.16)
project($name VERSION $version LANGUAGES C CXX)

if(NOT TFLM_TARGET)
  message(FATAL_ERROR "$name needs TensorFlow Lite Micro: set TFLM_TARGET to its CMake target, with include folders")
endif()

add_library($name STATIC
$sources
)
add_library($name::$name ALIAS $name)
set_target_properties($name PROPERTIES
  C_STANDARD 99 C_STANDARD_REQUIRED ON C_EXTENSIONS OFF
  CXX_STANDARD 17 CXX_STANDARD_REQUIRED ON CXX_EXTENSIONS OFF
)
target_include_directories($name PUBLIC src)
target_link_libraries($name PUBLIC $${TFLM_TARGET})

option(${upper}_SELFTEST "Build the self-test" OFF)
if(${upper}_SELFTEST)
  enable_testing()
  add_subdirectory(example)
  add_test(NAME selftest COMMAND ${name}_selftest)
endif()
