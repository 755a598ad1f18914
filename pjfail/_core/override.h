/*
 * override.h: sends one request to one server, whatever the plan says. No lock: each thread has its own override.
 */
#pragma once

#include "host.h"
#include "pjfail.h"

/*
 * Calls send, which sends the request tdata; it goes to exactly this server, and to no other when this one fails. Any
 * thread that pjsip knows.
 */
pj_status_t override_send(const pf_address *server, pjsip_tx_data *tdata, pj_status_t (*send)(pjsip_tx_data *, void *),
                          void *argument);

/* Returns the server that tdata, which this thread is sending, must go to; NULL: the plan decides, and retries. */
const pf_address *override_server(const pjsip_tx_data *tdata);
