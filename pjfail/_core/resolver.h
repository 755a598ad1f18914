/*
 * resolver.h: our pjsip_ext_resolver, what pjsip asks.
 */
#ifndef PJFAIL_RESOLVER_H
#define PJFAIL_RESOLVER_H

#include "questions.h"

/*
 * Takes the endpoint's questions over. The built-in DNS resolver is set aside, not destroyed. Attaching thread. Returns
 * a PF_ result.
 */
int resolver_install(pjsip_endpoint *endpt);

/* Puts back what was set aside; questions asked from now on are pjsip's own again. Detaching thread, or the endpoint's end. */
void resolver_remove(pjsip_endpoint *endpt);

/* The built-in DNS resolver that was set aside, or NULL; it lives as long as the endpoint. */
pj_dns_resolver *resolver_set_aside(void);

/*
 * Sends a request with no transaction behind it to exactly this server; names in it stay names. Any thread that pjsip knows.
 * Takes over the reference to tdata.
 */
pj_status_t resolver_send_to(pjsip_endpoint *endpt, pjsip_tx_data *tdata, const pf_address *server);

/* Whether this thread is inside resolver_send_to() with tdata. */
int resolver_is_sending_to(const pjsip_tx_data *tdata);

/* Has pjsip's own resolver answer waiter. Not for a SIP thread: a name is looked up on the spot. */
void resolver_return(pjsip_endpoint *endpt, struct waiter *waiter);

#endif
