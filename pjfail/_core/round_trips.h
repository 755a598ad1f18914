/* round_trips.h: how long servers take to answer, counted by transport. Any thread, no lock. */
#pragma once

void round_trips_add(int transport, double seconds);
