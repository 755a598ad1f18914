/*
 * hedging.h: the hedge budget: the share of requests that may be tried at the next server before their timeout,
 * because their server is later than its round trips so far. Under requests.lock.
 */
#pragma once

/* Sets which share of the requests may be hedged; 0: none. Attaching thread. */
void hedging_open(double share);

/* Returns whether any request may be hedged, ever. Any thread, without the lock. */
int hedging_is_on(void);

/* Adds the share of one more request to what may be spent. */
void hedging_earn_locked(void);

/* Return whether a request may be hedged now; and take one from the budget. */
int hedging_is_affordable_locked(void);

/* Takes one hedged request off what may be spent. */
void hedging_spend_locked(void);
