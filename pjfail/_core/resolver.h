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

/* 0 when the target is none that pjfail knows how to look up: another transport, a name too long. Any thread. */
int resolver_target_of(const pjsip_host_info *info, pf_target *target);

/*
 * Calls send, which sends tdata, a request; it goes to exactly this server (NULL: wherever the plan says), and names in it
 * stay names. Any thread that pjsip knows.
 */
pj_status_t resolver_send_to(const pf_address *server, pjsip_tx_data *tdata, pj_status_t (*send)(pjsip_tx_data *, void *),
                             void *argument);

/* Whether this thread is inside resolver_send_to() with tdata. */
int resolver_is_sending_to(const pjsip_tx_data *tdata);

#endif
