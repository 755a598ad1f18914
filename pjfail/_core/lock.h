/*
 * lock.h: holds a mutex to the end of the block. attach.h has the order of the mutexes.
 */
#pragma once

#include <pthread.h>

static inline pthread_mutex_t *lock_take(pthread_mutex_t *mutex)
{
    pthread_mutex_lock(mutex);
    return mutex;
}

static inline void lock_give_back(pthread_mutex_t **mutex) { pthread_mutex_unlock(*mutex); }

/*
 * Locks the mutex, and unlocks it where the block ends, however it is left. Write it before the first read that needs
 * it.
 */
#define HOLD_LOCK(mutex) __attribute__((cleanup(lock_give_back), unused)) pthread_mutex_t *lock_held = lock_take(mutex)
