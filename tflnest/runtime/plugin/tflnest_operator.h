/* A nested operator in an interpreter: what all of the plugin's modes have in common. */
#ifndef TFLNEST_OPERATOR_H
#define TFLNEST_OPERATOR_H

#include "tflnest_directory.h"
#include "tflnest_nested_call.h"
#include "tflnest_nested_filter.h"
#include "tflnest_tflite_abi.h"

struct tflnest_session;

typedef struct tflnest_operator {
    struct tflnest_session *session;
    struct tflnest_operator *next; /* of the session */
    const char *name;              /* of the filter or of the output; the model's */
    tflnest_directory directory;
    tflnest_options options;
    tflnest_nested_filter filter;
    uint32_t level;          /* position of the own level that runs */
    uint32_t checked;        /* bit p: the weights of level p are int8 */
    int32_t input;           /* tensor indices */
    int32_t output;
    int32_t scratch;
    int32_t bias;            /* of the level when it was made */
    tflnest_call call;       /* since the last prepare */
    size_t input_bytes;
    size_t output_bytes;
    tflnest_filter expanded; /* flat weights; `values` is NULL where planes are read */
    void *memory;            /* that holds them */
} tflnest_operator;

/* Whether a registration is that of a nested operator. */
int tflnest_operator_is_nested(const tfl_registration *registration);

/* Fill an operator from a node; everything is checked, its shapes included.
 *
 * level A level of the model; 0 is the highest.
 *
 * Returns NULL, or what is wrong in words.
 */
const char *tflnest_operator_read(tflnest_operator *operator, tfl_context *context, const tfl_node *node,
                                  const tfl_registration *registration, int level);

/* The own level of a level of the model, or -1. */
int tflnest_operator_position(const tflnest_operator *operator, int level);

/* Whether an own level can run; its weights are read where they may leave int8. */
int tflnest_operator_can_run(tflnest_operator *operator, uint32_t position);

/* Functions of the registration. */
int tflnest_operator_prepare(tfl_context *context, tfl_node *node);
int tflnest_operator_invoke(tfl_context *context, tfl_node *node);

#endif
