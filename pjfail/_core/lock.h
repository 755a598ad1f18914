/*
 * lock.h: a mutex that is held to the end of the block. The order of the mutexes stands in attach.h.
 */
#pragma once

#include <pthread.h>

static inline pthread_mutex_t *lock_take(pthread_mutex_t *mutex)
{
    pthread_mutex_lock(mutex);
    return mutex;
}

static inline void lock_give_back(pthread_mutex_t **mutex) { pthread_mutex_unlock(*mutex); }

/* Takes the mutex, and gives it back where the block ends, however it is left. Stands in front of what is read under it. */
#define HOLD_LOCK(mutex) __attribute__((cleanup(lock_give_back), unused)) pthread_mutex_t *lock_held = lock_take(mutex)
