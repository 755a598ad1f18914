/*
 * affinity.h: keeps accounts on their servers (pins), whatever the plan says.
 *
 * One mutex guards the pins; nothing is called with it held. Calls to pjsua run on pjsip's polling thread, where
 * pjsua's own timers make the same calls, so that no Python thread waits for pjsua's lock.
 */
#pragma once

#include "layout.h"
#include "request_info.h"

void affinity_open(void (*wake)(void));
void affinity_close(void);

/*
 * If the target is the next hop of the request's account, applies the account's pin. Returns 1 if the request must go
 * to one server only, that of the pin or of the request's dialog, which info then has; otherwise 0. For a followed
 * account, info only says which server to try first. Any SIP thread.
 */
int affinity_answer(const pf_target *target, pjsip_msg *request, struct request_info *info);

/*
 * These two return the followed account that a REGISTER, or the response to one, belongs to; otherwise -1. The request
 * is found by its next hop; a response by the account of its request, which is -1 if that was not followed. Any SIP
 * thread.
 */
int affinity_registers(pjsip_tx_data *request);
int affinity_registered(pjsip_msg *response, int account);

/*
 * Reports a REGISTER to the worker: message is the REGISTER, just sent (code 0), or the response to it. Any SIP
 * thread.
 */
void affinity_tell(int account, pjsip_msg *message, const pf_address *server, int code, int retry_after, int removed);

/* Makes the queued calls to pjsua. pjsip's polling thread. */
void affinity_run(void);
