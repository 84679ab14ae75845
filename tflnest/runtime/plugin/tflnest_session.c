#define _DEFAULT_SOURCE /* for madvise */

#include "tflnest_session.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tflnest_plugin.h"

/* Of all sessions and their lists of operators. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static tflnest_session *sessions;

/* Everything below until the next line of dashes is called with the lock held. */

static tflnest_session *find(uint64_t number)
{
    tflnest_session *session = number == 0 ? NULL : sessions;
    while (session != NULL && session->number != number) {
        session = session->next;
    }
    return session;
}

static tflnest_operator *find_operator(uint64_t number, int index)
{
    const tflnest_session *session = find(number);
    tflnest_operator *operator = session == NULL || index < 0 ? NULL : session->operators;
    while (operator != NULL && index-- > 0) {
        operator = operator->next;
    }
    return operator;
}

static void drop_reference(tflnest_session *session)
{
    if (--session->references == 0) {
        free(session);
    }
}

/* Tell the kernel about the memory pages that lie inside a plane. It may ignore it: nothing depends on it. */
static void advise(const tflnest_plane *plane, int advice)
{
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    const uintptr_t first = ((uintptr_t)plane->codes + page - 1) / page * page;
    const uintptr_t end = ((uintptr_t)plane->codes + plane->bytes) / page * page;
    if (plane->codes != NULL && end > first) {
        (void)madvise((void *)first, end - first, advice);
    }
}

/* Let planes `first` to `end` - 1 leave memory. */
static void release_planes(const tflnest_operator *operator, uint32_t first, uint32_t end)
{
#ifdef MADV_PAGEOUT
    for (uint32_t i = first; i < end; i++) {
        advise(&operator->filter.planes[i], MADV_PAGEOUT);
    }
#else
    (void)operator;
    (void)first;
    (void)end;
#endif
}

/* Let an operator run another level; planes that it no longer reads may leave memory. */
static void switch_level(tflnest_operator *operator, uint32_t level)
{
    const uint32_t previous = operator->level;
    __atomic_store_n(&operator->level, level, __ATOMIC_RELEASE);
    for (uint32_t i = previous + 1; i <= level; i++) {
        advise(&operator->filter.planes[i], MADV_WILLNEED);
    }
    release_planes(operator, level + 1, previous + 1);
}

static int check_level(tflnest_operator *operator, int position)
{
    if (position < 0) {
        return TFLNEST_ERROR_LEVEL;
    }
    return tflnest_operator_can_run(operator, (uint32_t)position) ? TFLNEST_OK : TFLNEST_ERROR_PAGE;
}

/* All operators, or none. */
static int set_level(tflnest_session *session, int level)
{
    for (tflnest_operator *operator = session->operators; operator != NULL; operator = operator->next) {
        const int status = check_level(operator, tflnest_operator_position(operator, level));
        if (status != TFLNEST_OK) {
            return status;
        }
    }
    for (tflnest_operator *operator = session->operators; operator != NULL; operator = operator->next) {
        switch_level(operator, (uint32_t)tflnest_operator_position(operator, level));
    }
    session->level = level;
    return TFLNEST_OK;
}

/* ------------------------------------------------------------------------------------------------------ */

tflnest_session *tflnest_session_new(uint64_t number)
{
    tflnest_session *session = calloc(1, sizeof *session);
    pthread_mutex_lock(&lock);
    if (session != NULL && find(number) != NULL) {
        free(session);
        session = NULL;
    }
    if (session != NULL) {
        session->number = number;
        session->references = 1;
        session->next = sessions;
        sessions = session;
    }
    pthread_mutex_unlock(&lock);
    return session;
}

void tflnest_session_close(tflnest_session *session)
{
    pthread_mutex_lock(&lock);
    tflnest_session **link = &sessions;
    while (*link != NULL && *link != session) {
        link = &(*link)->next;
    }
    if (*link == session) {
        *link = session->next;
        drop_reference(session);
    }
    pthread_mutex_unlock(&lock);
}

void tflnest_session_add(tflnest_session *session, tflnest_operator *operator)
{
    pthread_mutex_lock(&lock);
    tflnest_operator **link = &session->operators;
    while (*link != NULL) {
        link = &(*link)->next;
    }
    *link = operator;
    operator->session = session;
    session->references++;
    if (session->mode == TFLNEST_MODE_MEMORY) { /* they may be in memory because a page cache maps more than is read */
        release_planes(operator, operator->level + 1, operator->filter.available);
    }
    pthread_mutex_unlock(&lock);
}

void tflnest_session_remove(tflnest_operator *operator)
{
    tflnest_session *session = operator->session;
    pthread_mutex_lock(&lock);
    tflnest_operator **link = &session->operators;
    while (*link != operator) {
        link = &(*link)->next;
    }
    *link = operator->next;
    drop_reference(session);
    pthread_mutex_unlock(&lock);
    free(operator->memory);
    free(operator);
}

int tflnest_session_level(const tflnest_session *session)
{
    pthread_mutex_lock(&lock);
    const int level = session->level;
    pthread_mutex_unlock(&lock);
    return level;
}

int tflnest_plugin_set_level(uint64_t number, int level)
{
    pthread_mutex_lock(&lock);
    tflnest_session *session = find(number);
    const int known = session != NULL && session->mode == TFLNEST_MODE_MEMORY;
    const int status = known ? set_level(session, level) : TFLNEST_ERROR_ARGUMENT;
    pthread_mutex_unlock(&lock);
    return status;
}

int tflnest_plugin_set_operator_level(uint64_t number, int index, int level)
{
    pthread_mutex_lock(&lock);
    tflnest_operator *operator = find_operator(number, index);
    int status = TFLNEST_ERROR_ARGUMENT;
    if (operator != NULL && operator->session->mode == TFLNEST_MODE_MEMORY) {
        const tflnest_list *levels = &operator->options.levels;
        int position = (int)levels->count - 1;
        while (position >= 0 && levels->values[position] != level) {
            position--;
        }
        status = check_level(operator, position);
        if (status == TFLNEST_OK) {
            switch_level(operator, (uint32_t)position);
        }
    }
    pthread_mutex_unlock(&lock);
    return status;
}

int tflnest_plugin_operators(uint64_t number)
{
    pthread_mutex_lock(&lock);
    const tflnest_session *session = find(number);
    int count = session == NULL ? TFLNEST_ERROR_ARGUMENT : 0;
    for (tflnest_operator *i = session == NULL ? NULL : session->operators; i != NULL; i = i->next) {
        count++;
    }
    pthread_mutex_unlock(&lock);
    return count;
}

int tflnest_plugin_operator_level(uint64_t number, int index)
{
    pthread_mutex_lock(&lock);
    const tflnest_operator *operator = find_operator(number, index);
    const int level = operator == NULL ? TFLNEST_ERROR_ARGUMENT : operator->options.levels.values[operator->level];
    pthread_mutex_unlock(&lock);
    return level;
}

int tflnest_plugin_operator_name(uint64_t number, int index, char *name, int size)
{
    pthread_mutex_lock(&lock);
    const tflnest_operator *operator = find_operator(number, index);
    const int good = operator != NULL && name != NULL && size > 0;
    if (good) {
        strncpy(name, operator->name, (size_t)size);
        name[size - 1] = 0;
    }
    pthread_mutex_unlock(&lock);
    return good ? TFLNEST_OK : TFLNEST_ERROR_ARGUMENT;
}
