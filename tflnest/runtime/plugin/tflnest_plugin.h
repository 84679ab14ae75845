/* The plugin's own functions, for applications: the levels of a delegate in the mode `memory`.
 *
 * A delegate is named by the number that it got as option `session`. Its operators are those of all interpreters
 * that use it, and are counted from 0. Levels may be switched between invokes, from any thread. All functions
 * return a tflnest_status (0 is good) unless they say otherwise.
 */
#ifndef TFLNEST_PLUGIN_H
#define TFLNEST_PLUGIN_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TFLNEST_EXPORT __attribute__((visibility("default")))

/* Choose the level of all operators: one of the model's levels.
 *
 * TFLNEST_ERROR_ARGUMENT no such session, or its mode is `speed`
 * TFLNEST_ERROR_LEVEL    the model has no such level
 * TFLNEST_ERROR_PAGE     the file does not have a page that the level needs, or its weights are not int8
 */
TFLNEST_EXPORT int tflnest_plugin_set_level(uint64_t session, int level);

/* Choose the level of one operator: one of its own bit-widths. */
TFLNEST_EXPORT int tflnest_plugin_set_operator_level(uint64_t session, int index, int level);

/* Number of operators; negative where there is no such session. */
TFLNEST_EXPORT int tflnest_plugin_operators(uint64_t session);

/* Bit-width that an operator runs at; negative where there is no such operator. */
TFLNEST_EXPORT int tflnest_plugin_operator_level(uint64_t session, int index);

/* Copy the name of an operator's filter, or of its output where that has none; as much as fits `size`. */
TFLNEST_EXPORT int tflnest_plugin_operator_name(uint64_t session, int index, char *name, int size);

#ifdef __cplusplus
}
#endif

#endif
