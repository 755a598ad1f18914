/* round_trips.h: how long servers take to answer, counted by transport. Any thread, no lock. */
#pragma once

/* Counts one answer over that transport. */
void round_trips_add(int transport, double seconds);
