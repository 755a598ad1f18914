#include "round_trips.h"

#include "pjfail.h"

#include <stdatomic.h>
#include <string.h>

static const double bounds[PF_ROUND_TRIP_BOUNDS] = { .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10 };

static struct {
    atomic_ullong counts[PF_ROUND_TRIP_BOUNDS + 1], microseconds;
} measured[PF_TLS + 1]; /* by transport */

void round_trips_add(int transport, double seconds)
{
    atomic_ullong *sum = &measured[transport].microseconds, *count = measured[transport].counts;
    int i = 0;

    while (i < PF_ROUND_TRIP_BOUNDS && seconds > bounds[i])
        i++;
    atomic_store_explicit(&count[i], count[i] + 1, memory_order_relaxed);
    atomic_store_explicit(sum, *sum + (unsigned long long)(seconds * 1e6), memory_order_relaxed);
}

void pf_read_round_trips(int transport, pf_round_trips *trips)
{
    int i;

    memcpy(trips->bounds, bounds, sizeof bounds);
    for (i = 0; i <= PF_ROUND_TRIP_BOUNDS; i++)
        trips->counts[i] = atomic_load_explicit(&measured[transport].counts[i], memory_order_relaxed);
    trips->seconds = (double)atomic_load_explicit(&measured[transport].microseconds, memory_order_relaxed) * 1e-6;
}
