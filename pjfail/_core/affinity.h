/*
 * affinity.h: accounts that stay with a server, whatever the plan says.
 *
 * One mutex guards the pins; nothing is called with it held. Jobs for pjsua run on pjsip's polling thread, where pjsua's own
 * timers do the same, so that no thread of Python's waits for pjsua's lock.
 */
#ifndef PJFAIL_AFFINITY_H
#define PJFAIL_AFFINITY_H

#include "plans.h"

void affinity_open(void (*wake)(void));
void affinity_close(void);

/*
 * Where the next hop is the account's own: whether the request goes to one server alone, that of its account's pin or of its own
 * dialog, which then is asker's. A followed account's server is only to be the first: asker is told. Any SIP thread.
 */
int affinity_answer(const pf_target *target, pjsip_msg *request, struct asker *asker);

/* The followed account that this REGISTER is of, else -1. Any SIP thread. */
int affinity_registers(pjsip_msg *request);

/* pjsip's polling thread. */
void affinity_run(void);

#endif
