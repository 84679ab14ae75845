# $heading

if(CONFIG_$upper)
  zephyr_library_named($name)
  zephyr_library_sources(
$sources
  )
  zephyr_include_directories(../src)
endif()
