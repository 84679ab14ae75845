# $heading

idf_component_register(
  SRCS
$sources
  INCLUDE_DIRS "src"
)

# Projects are compiled for debugging by default (-Og), which makes kernels slow.
if(NOT CONFIG_COMPILER_OPTIMIZATION_SIZE AND NOT CONFIG_COMPILER_OPTIMIZATION_NONE)
  target_compile_options($${COMPONENT_LIB} PRIVATE -O2)
endif()
