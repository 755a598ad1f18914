/*
 * override.h: has one request go to one server, whatever the plan says. No lock: a thread has its own.
 */
#pragma once

#include "host.h"
#include "pjfail.h"

/*
 * Calls send, which sends tdata, a request; it goes to exactly this server (NULL: wherever the plan says), and names in it
 * stay names. Any thread that pjsip knows.
 */
pj_status_t override_send(const pf_address *server, pjsip_tx_data *tdata, pj_status_t (*send)(pjsip_tx_data *, void *),
                          void *argument);

/* Returns whether this thread is inside override_send() with tdata. */
int override_is_for(const pjsip_tx_data *tdata);

/* Returns the server that tdata, being sent by this thread, has to go to; NULL: there is none. */
const pf_address *override_server(const pjsip_tx_data *tdata);
