/*
 * hedging.h: the hedge budget: the share of requests that may be tried at the next server before their timeout,
 * because their server is later than its round trips so far. Under requests.lock.
 */
#pragma once

/* share: the share of requests, 0 to 1; 0: no request is hedged. Attaching thread. */
void hedging_open(double share);

/* Returns whether any request may be hedged, ever. Any thread, without the lock. */
int hedging_is_on(void);

/* Called for each request that is sent. */
void hedging_earn_locked(void);

/* Return whether a request may be hedged now; and take one from the budget. */
int hedging_is_affordable_locked(void);
void hedging_spend_locked(void);
