/*
 * gate.h: the gate that every call from pjsip passes, and every thread of Python's that works with the endpoint.
 *
 * An open gate counts the threads that are inside. A closed gate lets nobody in, so once it has none inside, what pjfail keeps
 * of requests may be freed. pjsip cannot tell us: it removes a module or a callback without waiting for threads that are in it.
 * The gate takes no lock. Any thread may call what follows.
 */
#pragma once

/* Counts the calling thread in; it must call gate_leave() then. Returns 0 when the gate is closed, for a thread inside, too. */
int gate_enter(void);

/* Counts the calling thread out. */
void gate_leave(void);

/* Lets threads in. Attaching thread. */
void gate_open(void);

/* Lets nobody in any more; those inside stay. Detaching thread. */
void gate_close(void);

/* Returns whether it is open. */
int gate_is_open(void);

/* Closes the gate for good in a forked child of the process that attached. Called between fork() and whatever follows. */
void gate_close_in_forked_child(void);

/* Returns whether this is a forked child of the process that attached. */
int gate_is_forked_child(void);

/* Returns whether the calling thread is inside. */
int gate_is_inside(void);

/* Returns how many threads are inside, without the calling one. */
unsigned gate_others(void);
