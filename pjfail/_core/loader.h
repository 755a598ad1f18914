/*
 * loader.h: what the core itself asks of the dynamic loader; what Python asks stands in pjfail.h.
 */
#pragma once

#include <stddef.h>

/* Returns the size of the exported variable at this address, by its object's symbol table; 0: unknown. A Python thread. */
size_t loader_size_of(const void *variable);
