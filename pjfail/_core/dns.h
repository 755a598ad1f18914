/*
 * dns.h: uses pjsip's own DNS resolver (pj_dns_resolver) for the worker: the one that pjsua was configured with, or
 * one of ours with other name servers.
 */
#pragma once

#include "host.h"

/* Ends the handles of this attachment. Our resolvers stay for the next one: see dns_close(). The gate is closed. */
void dns_detach(void);

/* Destroys our resolvers of the endpoint, which ends. The gate is closed. */
void dns_close(pjsip_endpoint *endpt);
