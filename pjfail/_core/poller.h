/*
 * poller.h: wakes pjsip's polling thread when something has happened or is due. (pjsip's timers have other names and
 * layouts in every build.)
 */
#pragma once

#include "host.h"

/*
 * Makes the polling thread of host_endpoint() call on_wake, inside the gate, whenever it is woken. Returns a PF_
 * result. Waits for a free key of pjsip's ioqueue. Attaching thread, the lock of attach.c held.
 */
int poller_open(void (*on_wake)(double now));

/* Wakes the polling thread. Any thread, at any time, whatever locks it holds. */
void poller_wake(void);

/*
 * Returns since when the polling thread has run: now, while it does not. A server's silence before that proves nothing, for nobody has
 * read what came. Any thread, whatever it holds.
 */
double poller_polled_since(double now);

/* Wakes the polling thread at that time, too. Any thread that holds no lock of ours. */
void poller_wake_at(double when);

/*
 * Calls on_tick every 0.1 s, or sooner, until poller_stop(); wakes the polling thread if it returns true. Rests while
 * needs_ticks returns false, until poller_begin_ticks(). The attachment's own thread.
 */
void poller_run(int (*on_tick)(void), int (*needs_ticks)(void));

/*
 * Has the ticks begin again if they rest: there is something now that needs them. Any thread that holds no lock of
 * ours.
 */
void poller_begin_ticks(void);

/* Makes poller_run() return. Any thread that holds no lock of ours. */
void poller_stop(void);

/* Gives the key back to pjsip's ioqueue. No thread is inside the gate; no lock of ours is held. */
void poller_close(void);
