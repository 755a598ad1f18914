#include "gate.h"

#include <stdatomic.h>

/* The number of threads inside, and this bit. */
#define GATE_CLOSED 0x80000000u

static atomic_uint gate_state = GATE_CLOSED;
static atomic_int gate_forked_child;

/*
 * How often this thread has entered and not left. It enters again when something that it sends makes pjsip call us; it
 * counts as one thread.
 */
static __thread unsigned gate_depth;

int gate_enter(void)
{
    if (atomic_load_explicit(&gate_state, memory_order_acquire) & GATE_CLOSED)
        return 0;
    if (!gate_depth && (atomic_fetch_add(&gate_state, 1) & GATE_CLOSED)) {
        atomic_fetch_sub(&gate_state, 1); /* the gate has been closed meanwhile */
        return 0;
    }
    gate_depth++;
    return 1;
}

void gate_leave(void)
{
    if (!--gate_depth)
        atomic_fetch_sub(&gate_state, 1);
}

void gate_open(void) { atomic_fetch_and(&gate_state, ~GATE_CLOSED); }

void gate_close(void) { atomic_fetch_or(&gate_state, GATE_CLOSED); }

int gate_is_open(void) { return !(atomic_load(&gate_state) & GATE_CLOSED); }

void gate_close_in_forked_child(void)
{
    atomic_store(&gate_forked_child, 1);
    gate_close();
}

int gate_is_forked_child(void) { return atomic_load_explicit(&gate_forked_child, memory_order_relaxed); }

int gate_is_inside(void) { return gate_depth != 0; }

unsigned gate_others(void) { return (atomic_load(&gate_state) & ~GATE_CLOSED) - (gate_depth != 0); }
