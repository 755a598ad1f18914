/* roundtrips.h: how long servers take to answer, counted by transport. Any thread, no lock. */
#ifndef PJFAIL_ROUNDTRIPS_H
#define PJFAIL_ROUNDTRIPS_H

void round_trips_note(int transport, double seconds);

#endif
