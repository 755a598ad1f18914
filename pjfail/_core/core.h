/*
 * core.h: whether we are attached, and in this very process.
 */
#ifndef PJFAIL_CORE_H
#define PJFAIL_CORE_H

#include "host.h"

/* The number of the attachment, 0 while there is none. */
int core_attached(void);

/*
 * Runs work with the endpoint, whose end waits for that; PF_NO_ENDPOINT when detached. No lock of ours is held, so a detach
 * may come meanwhile. No SIP thread, lest it wait.
 */
int core_with_endpoint(int (*work)(pjsip_endpoint *endpt, void *argument), void *argument);

/* Whether this is a forked child of the process that attached. No lock. */
int core_is_foreign(void);

#endif
