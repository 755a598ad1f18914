/*
 * hedging.h: the budget of requests that are tried at the next server before their timeout, for their server is late by its own
 * round trips: a share of all requests. Under requests.lock.
 */
#pragma once

/* Sets which share of the requests may be hedged; 0: none. Attaching thread. */
void hedging_open(double share);

/* Returns whether any request may be hedged, ever. Any thread, without the lock. */
int hedging_is_on(void);

/* Adds the share of one more request to what may be spent. */
void hedging_earn_locked(void);

/* Returns whether one may be hedged now. */
int hedging_is_affordable_locked(void);

/* Takes one hedged request off what may be spent. */
void hedging_spend_locked(void);
