# $heading

if(CONFIG_TFLNEST_$upper)
  zephyr_library_named(tflnest_$name)
  zephyr_library_sources(
$sources
  )
  # Where Zephyr compiles with -ffreestanding, every load of a word through memcpy would be a call.
  zephyr_library_cc_option(-fbuiltin)
  zephyr_include_directories(../src)
endif()
