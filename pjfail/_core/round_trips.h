/* round_trips.h: how long servers take to answer, counted by transport. Any thread, no lock. */
#ifndef PJFAIL_ROUND_TRIPS_H
#define PJFAIL_ROUND_TRIPS_H

void round_trips_add(int transport, double seconds);

#endif
