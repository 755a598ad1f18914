/* failing.h: allocations that fail. fuzz_responses.py compiles the core with malloc and calloc renamed to these. */
#ifndef FAILING_H
#define FAILING_H

#include <stddef.h>

void *failing_malloc(size_t size);
void *failing_calloc(size_t count, size_t size);

/* From now on one allocation in so many fails; 0: none does. Returns how many have failed so far. */
unsigned failing_share(unsigned one_in);

#endif
