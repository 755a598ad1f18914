/*
 * retriable.h: what is kept of a request that pjsip sends, so that it can be sent to other servers as well.
 *
 * No state and no lock of its own. The SIP thread that sends the request; its transaction's lock may be held.
 */
#pragma once

#include "requests.h"
#include "servers.h"

/* A server counts as slow after this many seconds at least, however fast it was: a tenth of a second. */
#define MIN_HEDGE_S 0.105

/*
 * Returns a request that may be tried at other servers than this one, the caller's reference; NULL: it may not, there are
 * none, or there is no memory. view: of the server; branch: of its Via.
 */
struct request *retriable_make(pjsip_tx_data *tdata, const pf_address *server, const struct server_view *view,
                               const pj_str_t *branch, const pf_retry_policy *policy, double now);
