#include "hedging.h"

#include <math.h>

/* The most hedges that can be saved up, for requests at the same moment. */
#define MAX_SAVED_HEDGES 10.0

/* share is written while attaching; saved, in requests, is guarded by requests.lock. */
static struct {
    double share, saved;
} hedging;

void hedging_open(double share)
{
    hedging.share = share;
    hedging.saved = 1;
}

int hedging_is_on(void) { return hedging.share > 0; }

void hedging_earn_locked(void) { hedging.saved = fmin(hedging.saved + hedging.share, MAX_SAVED_HEDGES); }

int hedging_is_affordable_locked(void) { return hedging.saved >= 1; }

void hedging_spend_locked(void) { hedging.saved -= 1; }
