/* The external delegate: what TensorFlow Lite loads (tflite_plugin_create_delegate). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tflnest_plugin.h"
#include "tflnest_session.h"
#include "tflnest_stock.h"

#define OPTIONS "level, mode, session"
#define MESSAGE_BYTES 160

/* ---------------------------------------------------------------------------------------------- options */

/* A decimal number of at most `highest`; 0 where it is none. */
static int read_number(const char *text, uint64_t highest, uint64_t *number)
{
    *number = 0;
    if (text == NULL || text[0] == 0) {
        return 0;
    }
    for (; *text != 0; text++) {
        const uint64_t digit = (uint64_t)(unsigned char)*text - '0';
        if (digit > 9 || digit > highest || *number > (highest - digit) / 10) {
            return 0;
        }
        *number = 10 * *number + digit;
    }
    return 1;
}

/* What the options say. */
typedef struct {
    tflnest_mode mode;
    uint64_t level;
    uint64_t session;
} requested;

/* Read one option; a text where it makes no sense. */
static const char *read_option(requested *options, const char *key, const char *value)
{
    if (key != NULL && value != NULL && strcmp(key, "mode") == 0) {
        options->mode = strcmp(value, "memory") == 0 ? TFLNEST_MODE_MEMORY : TFLNEST_MODE_SPEED;
        return options->mode == TFLNEST_MODE_MEMORY || strcmp(value, "speed") == 0
                   ? NULL
                   : "the option mode is speed or memory";
    }
    if (key != NULL && strcmp(key, "level") == 0) {
        const int good = read_number(value, TFLNEST_MASTER_BITS, &options->level) && options->level > 0;
        return good ? NULL : "the option level is a number from 1 to 8";
    }
    if (key != NULL && strcmp(key, "session") == 0) {
        const int good = read_number(value, UINT64_MAX, &options->session) && options->session > 0;
        return good ? NULL : "the option session is a number from 1 to 2^64 - 1";
    }
    return "there is no such option; there are " OPTIONS;
}

/* ---------------------------------------------------------------------------------------------- kernels */

static void *start_operator(tfl_context *context, const char *buffer, size_t length)
{
    const tfl_delegate_params *params = (const tfl_delegate_params *)(const void *)buffer;
    tflnest_session *session = (tflnest_session *)(void *)params->delegate;
    tflnest_operator *operator = malloc(sizeof *operator);
    tfl_node *node = NULL;
    tfl_registration *registration = NULL;
    (void)length;
    if (operator != NULL &&
        context->get_node_and_registration(context, params->nodes_to_replace->data[0], &node, &registration) ==
            TFL_OK &&
        tflnest_operator_read(operator, context, node, registration, tflnest_session_level(session)) == NULL) {
        tflnest_session_add(session, operator);
        return operator;
    }
    free(operator);
    return NULL;
}

static void end_operator(tfl_context *context, void *operator)
{
    (void)context;
    if (operator != NULL) {
        tflnest_session_remove(operator);
    }
}

/* --------------------------------------------------------------------------------------------- delegate */

static void report(tfl_context *context, int index, const tfl_registration *registration, const char *problem)
{
    context->report_error(context, "tflnest: operator %d (%s): %s", index, registration->custom_name, problem);
}

/* Leave a node to a kernel that reads planes. */
static int replace(tfl_context *context, tflnest_session *session, int index)
{
    const tfl_registration_value value = {
        {start_operator, end_operator, tflnest_operator_prepare, tflnest_operator_invoke, NULL, 0, "TFLNEST", 1},
        {0},
    };
    int32_t list[2] = {1, index}; /* one node: several would be merged, and lose the tensors between them */
    return context->replace_nodes(context, value, (const tfl_int_array *)(const void *)list, &session->delegate);
}

/* Turn a node into a stock operator. */
static int convert(tfl_context *context, tflnest_session *session, int index, tfl_node *node,
                   tfl_registration *registration)
{
    tflnest_operator *operator = malloc(sizeof *operator);
    const char *problem = "there is no memory left";
    if (operator != NULL) {
        problem = tflnest_operator_read(operator, context, node, registration, session->level);
        if (problem == NULL) {
            tflnest_session_add(session, operator);
            problem = tflnest_stock_convert(operator, context, node, registration);
            if (problem != NULL) {
                tflnest_session_remove(operator);
            }
        } else {
            free(operator);
        }
    }
    if (problem != NULL) {
        report(context, index, registration, problem);
    }
    return problem == NULL ? TFL_OK : TFL_ERROR;
}

/* Check a node; the number of weights is added up. */
static int check(tfl_context *context, const tflnest_session *session, int index, const tfl_node *node,
                 const tfl_registration *registration, uint64_t *weights)
{
    tflnest_operator operator;
    const char *problem =
        tflnest_operator_read(&operator, context, node, registration, tflnest_session_level(session));
    *weights += operator.filter.weights;
    if (problem == NULL && session->mode == TFLNEST_MODE_SPEED && *weights > TFLNEST_MAX_EXPANDED_WEIGHTS) {
        problem = "the filters together have too many weights to be expanded";
    }
    if (problem != NULL) {
        report(context, index, registration, problem);
    }
    return problem == NULL ? TFL_OK : TFL_ERROR;
}

/* Go through the nested nodes of a plan: check them, or give them their kernels. */
static int visit(tfl_context *context, tflnest_session *session, const tfl_int_array *plan, int only_check)
{
    uint64_t weights = 0;
    for (int32_t i = 0; i < plan->size; i++) {
        tfl_node *node = NULL;
        tfl_registration *registration = NULL;
        const int index = plan->data[i];
        int status = context->get_node_and_registration(context, index, &node, &registration);
        if (status == TFL_OK && tflnest_operator_is_nested(registration)) {
            if (only_check) {
                status = check(context, session, index, node, registration, &weights);
            } else if (session->mode == TFLNEST_MODE_MEMORY) {
                status = replace(context, session, index);
            } else {
                status = convert(context, session, index, node, registration);
            }
        }
        if (status != TFL_OK) {
            return status;
        }
    }
    return TFL_OK;
}

static int prepare(tfl_context *context, tfl_delegate *delegate)
{
    tfl_int_array *theirs = NULL;
    if (context->get_execution_plan(context, &theirs) != TFL_OK) {
        return TFL_ERROR;
    }
    const size_t bytes = sizeof(tfl_int_array) + (size_t)theirs->size * sizeof(int32_t);
    tfl_int_array *plan = malloc(bytes); /* theirs changes with every node that is replaced */
    if (plan == NULL) {
        return TFL_ERROR;
    }
    memcpy(plan, theirs, bytes);
    tflnest_session *session = (tflnest_session *)(void *)delegate;
    int status = visit(context, session, plan, 1);
    if (status == TFL_OK) {
        status = visit(context, session, plan, 0);
    }
    free(plan);
    return status;
}

TFLNEST_EXPORT tfl_delegate *tflite_plugin_create_delegate(const char *const *keys, const char *const *values,
                                                           size_t count, void (*report_error)(const char *));
TFLNEST_EXPORT void tflite_plugin_destroy_delegate(tfl_delegate *delegate);

tfl_delegate *tflite_plugin_create_delegate(const char *const *keys, const char *const *values, size_t count,
                                            void (*report_error)(const char *))
{
    requested options = {TFLNEST_MODE_SPEED, 0, 0};
    char message[MESSAGE_BYTES];
    const char *problem = NULL;
    uint32_t i = 0;
    for (; problem == NULL && i < (uint32_t)count; i++) { /* Python passes an int: the upper half is not set */
        problem = read_option(&options, keys[i], values[i]);
    }
    const char *key = problem == NULL ? "session" : keys[i - 1];
    tflnest_session *session = problem == NULL ? tflnest_session_new(options.session) : NULL;
    if (session == NULL) {
        problem = problem == NULL ? "the session is in use, or there is no memory left" : problem;
        snprintf(message, sizeof message, "tflnest: option %.40s: %s", key == NULL ? "" : key, problem);
        if (report_error != NULL) {
            report_error(message);
        }
        return NULL;
    }
    session->mode = options.mode;
    session->level = (int)options.level;
    session->delegate.data = session;
    session->delegate.prepare = prepare;
    session->delegate.flags = TFL_DELEGATE_FLAG_ALLOW_DYNAMIC_TENSORS;
    return &session->delegate;
}

void tflite_plugin_destroy_delegate(tfl_delegate *delegate)
{
    if (delegate != NULL) {
        tflnest_session_close((tflnest_session *)(void *)delegate);
    }
}

#ifdef TFLNEST_KEY
TFLNEST_EXPORT const char *tflnest_plugin_key(void);

/* Names the sources that it was compiled from. */
const char *tflnest_plugin_key(void)
{
    return TFLNEST_KEY;
}
#endif
