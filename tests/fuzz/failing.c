#include "failing.h"

#include <stdatomic.h>
#include <stdlib.h>

static atomic_uint share, failed;

/* Any thread. The same sequence in each run, dealt out to the threads as they come. */
static int failing_now(void)
{
    static atomic_uint state = 12345;
    unsigned one_in = atomic_load(&share), number = atomic_fetch_add(&state, 2654435761u);

    number = (number ^ number >> 15) * 2246822519u;
    if (!one_in || (number >> 13) % one_in != 0)
        return 0;
    atomic_fetch_add(&failed, 1);
    return 1;
}

void *failing_malloc(size_t size) { return failing_now() ? NULL : malloc(size); }

void *failing_calloc(size_t count, size_t size) { return failing_now() ? NULL : calloc(count, size); }

unsigned failing_share(unsigned one_in)
{
    atomic_store(&share, one_in);
    return atomic_load(&failed);
}
