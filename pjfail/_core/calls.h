/*
 * calls.h: which connection each call is on, so that a call whose connection has ended can be refreshed: until then its
 * server has no way to us. One mutex, no other lock taken inside.
 */
#pragma once

#include "layout.h"
#include "pjfail.h"

/*
 * Notes that a 2xx to an INVITE or UPDATE of that Call-ID came from server, or went there, over that transport. Tells
 * the worker if that ends calls_refresh(). SIP threads.
 */
void calls_on_accepted(const pj_str_t *call_id, const pjsip_method *method, int code, const pjsip_transport *transport,
                       const pf_address *server);

/* Notes that a BYE is sent, or has come in. SIP threads. */
void calls_on_bye(const pjsip_msg *bye);

/* Notes that a connection has ended. The thread that tells of the state, no lock of ours held. */
void calls_on_transport_state(const pjsip_transport *transport, pjsip_transport_state state);

/* Tells the worker of each call of that account. pjsip's polling thread, no lock held; takes pjsua's. */
void calls_review(int account);

/*
 * Sends a re-INVITE with the account's present Contact in that call of pjsua's, if it still has that Call-ID. pjsip's
 * polling thread, no lock held; takes pjsua's and the dialog's.
 */
void calls_refresh(int call, const char *call_id);

/* Forgets all calls. Nobody is inside the gate, no lock held. */
void calls_clear(void);
