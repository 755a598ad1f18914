/*
 * dns.h: drives pjsip's own DNS resolver (pj_dns_resolver) for the worker: the one that pjsua was configured with, or
 * ours with other name servers.
 */
#pragma once

#include "host.h"

/* Ends the handles of this attachment. Our resolvers stay for the next one: see dns_close(). The gate is closed. */
void dns_detach(void);

/* Destroys our resolvers of that endpoint, which ends. The gate is closed. */
void dns_close(pjsip_endpoint *endpt);
