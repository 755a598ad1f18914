/*
 * resolver.h: our pjsip_ext_resolver, what pjsip asks.
 */
#pragma once

#include "queries.h"

/*
 * Takes the endpoint's queries over. The built-in DNS resolver is set aside, not destroyed. Attaching thread. Returns
 * a PF_ result.
 */
int resolver_install(pjsip_endpoint *endpt);

/* Puts back what was set aside; what is asked from now on are pjsip's own again. Detaching thread, or the endpoint's end. */
void resolver_remove(pjsip_endpoint *endpt);

/*
 * Writes the servers that the request would get if it was sent now, by the plan at hand; returns 0 where there is none, or the request's
 * account is pinned. SIP thread, no lock of ours held.
 */
int resolver_answer_anew(pjsip_tx_data *tdata, server_addresses *planned);

/* The built-in DNS resolver that was set aside, or NULL; it lives as long as the endpoint. */
pj_dns_resolver *resolver_saved(void);
