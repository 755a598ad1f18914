/* round_trips.h: how long servers take to answer, counted by transport. Takes no lock; any thread may read. */
#pragma once

/* Counts one answer over that transport. Under servers.lock, so that only one thread counts at a time. */
void round_trips_add(int transport, double seconds);
