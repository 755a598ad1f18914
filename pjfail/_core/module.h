/*
 * module.h: the functions that pjsip calls while it sends and receives: our pjsip_module, and the transport manager's
 * state callback.
 */
#pragma once

#include "host.h"

/*
 * Takes a slot for the endpoint's module; returns 0 if there is none. The thread that ends the endpoint calls
 * on_endpoint_end, holding no lock. Attaching thread, the lock of attach.c held.
 */
int module_open(pjsip_endpoint *endpt, void (*on_endpoint_end)(pjsip_endpoint *endpt));

/*
 * Registers the module with its endpoint, unless it is registered already. Waits for pjsip. The attachment's own
 * thread.
 */
pj_status_t module_register(void);

/* Puts our callback in front of the one that is there. The lock of attach.c held. */
void module_chain_state_callback(pjsip_endpoint *endpt);

/*
 * Takes our callback out again; where another one is on top of ours, ours stays below and passes through. The lock of
 * attach.c held.
 */
void module_unchain_state_callback(pjsip_endpoint *endpt);
