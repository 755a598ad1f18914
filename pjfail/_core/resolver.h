/*
 * resolver.h: our pjsip_ext_resolver, which answers pjsip's queries.
 */
#pragma once

#include "queries.h"

/*
 * Takes over the endpoint's queries. Saves the built-in DNS resolver, without destroying it. Returns a PF_ result.
 * Attaching thread.
 */
int resolver_install(pjsip_endpoint *endpt);

/* Restores the saved resolver; from now on pjsip answers its own queries. Detaching thread, or the endpoint's end. */
void resolver_remove(pjsip_endpoint *endpt);

/*
 * Writes the servers that the request would get if it was sent now, by the plan at hand; returns 0 where there is none, or the request's
 * account is pinned. SIP thread, no lock of ours held.
 */
int resolver_answer_anew(pjsip_tx_data *tdata, server_addresses *planned);

/* Returns the saved built-in DNS resolver, or NULL; it lives as long as the endpoint. */
pj_dns_resolver *resolver_saved(void);
