/*
 * loader.h: what the core itself asks of the dynamic loader; what Python asks stands in pjfail.h.
 */
#pragma once

#include <stddef.h>

/* Returns the size of the exported variable at this address, by its object's symbol table; 0: unknown. A Python thread. */
size_t loader_size_of(const void *variable);

/*
 * Returns the loaded object of this name (NULL: the main program) for dlsym(); the caller gives it to dlclose(). NULL: no
 * object of this name is loaded. A Python thread.
 */
void *loader_open(const char *object);
