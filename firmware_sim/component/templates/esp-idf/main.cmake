# $heading

# A component is named after its folder.
get_filename_component(folder $${CMAKE_CURRENT_LIST_DIR}/../../.. ABSOLUTE)
get_filename_component(component $${folder} NAME)
idf_component_register(SRCS "main.c" "$selftest" INCLUDE_DIRS "." REQUIRES $${component})
