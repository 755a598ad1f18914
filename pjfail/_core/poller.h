/*
 * poller.h: has pjsip's polling thread look after us when something has happened, or is due. (pjsip's timers are reached by other
 * names and layouts in every build.)
 */
#pragma once

#include "host.h"

/*
 * Has the polling thread of host_endpoint() call on_wake, inside the gate, whenever it is woken. Returns a PF_ result. Attaching
 * thread, the lock of attach.c held; waits for a free key of pjsip's ioqueue.
 */
int poller_open(void (*on_wake)(double now));

/* Wakes the polling thread. Any thread, whatever it holds; any time. */
void poller_wake(void);

/*
 * Returns since when the polling thread has run: now, while it does not. A server's silence before that proves nothing, for nobody has
 * read what came. Any thread, whatever it holds.
 */
double poller_polled_since(double now);

/* Has the polling thread woken at that time, too. Any thread that holds no lock of ours. */
void poller_wake_at(double when);

/* Calls on_tick every 0.1 s, or sooner, until poller_stop(); wakes the polling thread when it returns true. The attachment's own thread. */
void poller_run(int (*on_tick)(void));

/* Has poller_run() return. Any thread that holds no lock of ours. */
void poller_stop(void);

/* Gives the key back. Nobody is inside the gate; no lock of ours is held. */
void poller_close(void);
