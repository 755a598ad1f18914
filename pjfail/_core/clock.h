/*
 * clock.h: the clock of the whole core, the same as Python's time.monotonic().
 */
#pragma once

#include <time.h>

/* Returns CLOCK_MONOTONIC in seconds. Any thread. */
static inline double clock_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* Puts the calling thread to sleep for so many seconds. */
static inline void clock_pause(double seconds)
{
    const struct timespec pause = { (time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9) };

    nanosleep(&pause, NULL);
}
