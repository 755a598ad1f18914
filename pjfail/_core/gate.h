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
void gate_leave(void);

void gate_open(void);
void gate_close(void);

/* Returns whether it is open. */
int gate_is_open(void);

/* Closes the gate for good in a forked child of the process that attached. Called between fork() and whatever follows. */
void gate_close_in_forked_child(void);
int gate_is_forked_child(void);

/* Returns whether the calling thread is inside. */
int gate_is_inside(void);

/* Returns how many threads are inside, without the calling one. */
unsigned gate_others(void);
