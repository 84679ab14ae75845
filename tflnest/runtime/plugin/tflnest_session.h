/* What a delegate keeps: its options, and the operators of the interpreters that use it. */
#ifndef TFLNEST_SESSION_H
#define TFLNEST_SESSION_H

#include "tflnest_operator.h"

typedef enum { TFLNEST_MODE_SPEED, TFLNEST_MODE_MEMORY } tflnest_mode;

/* The delegate itself, and one reference of each operator, keep a session. */
typedef struct tflnest_session {
    tfl_delegate delegate; /* first: the runtime's pointer to it is one to the session */
    tflnest_mode mode;
    int level;       /* of the model, for interpreters that are yet to come; 0 is the highest */
    uint64_t number; /* 0: functions of tflnest_plugin.h cannot name it */
    uint32_t references;
    tflnest_operator *operators;
    struct tflnest_session *next;
} tflnest_session;

/* A session with one reference; NULL where there is no memory or the number is taken. */
tflnest_session *tflnest_session_new(uint64_t number);

/* Drop a reference that is not an operator's: the session can no longer be named. */
void tflnest_session_close(tflnest_session *session);

/* Put an operator at the end of a session's list; it holds a reference. */
void tflnest_session_add(tflnest_session *session, tflnest_operator *operator);

/* Remove an operator and free it. */
void tflnest_session_remove(tflnest_operator *operator);

/* The level for interpreters that are yet to come. */
int tflnest_session_level(const tflnest_session *session);

#endif
