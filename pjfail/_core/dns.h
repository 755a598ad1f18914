/*
 * dns.h: drives pjsip's own DNS resolver (pj_dns_resolver) for the worker: the one that pjsua was configured with, or
 * ours with other name servers.
 */
#ifndef PJFAIL_DNS_H
#define PJFAIL_DNS_H

/* Ends our resolvers; what was asked of them is answered with an error. After core_attached() has gone to 0. */
void dns_close(void);

#endif
