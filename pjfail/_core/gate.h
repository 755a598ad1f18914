/*
 * gate.h: every call from pjsip passes the gate, and so does every Python thread that works with the endpoint.
 *
 * An open gate counts the threads inside. A closed gate lets no thread in; once none is inside, everything that pjfail
 * keeps about requests may be freed. pjsip cannot tell us when that is: it removes a module or a callback without
 * waiting for the threads in it. The gate takes no lock. Any thread may call these functions.
 */
#pragma once

/*
 * Counts the calling thread in; it must call gate_leave() later. Returns 0 if the gate is closed, also for a thread
 * that is inside.
 */
int gate_enter(void);

/* Counts the calling thread out. */
void gate_leave(void);

/* Lets threads in. Attaching thread. */
void gate_open(void);

/* Lets nobody in any more; those inside stay. Detaching thread. */
void gate_close(void);

/* Returns whether it is open. */
int gate_is_open(void);

/* Closes the gate for ever in a forked child of the process that attached. Called between fork() and anything else. */
void gate_close_in_forked_child(void);

/* Returns whether this is a forked child of the process that attached. */
int gate_is_forked_child(void);

/* Returns whether the calling thread is inside. */
int gate_is_inside(void);

/* Returns how many threads are inside, apart from the calling one. */
unsigned gate_others(void);
