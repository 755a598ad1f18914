/*
 * core.h: whether we are attached, and in this very process.
 */
#ifndef PJFAIL_CORE_H
#define PJFAIL_CORE_H

#include "host.h"

int core_attached(void);

/* Runs work with the endpoint, which cannot go away meanwhile; PF_NO_ENDPOINT when detached. No SIP thread, lest it wait. */
int core_with_endpoint(int (*work)(pjsip_endpoint *endpt, void *argument), void *argument);

/* Whether this is a forked child of the process that attached. No lock. */
int core_is_foreign(void);

#endif
