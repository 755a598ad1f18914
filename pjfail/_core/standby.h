/*
 * standby.h: further registrations of an account, each at one server beside its own (standbys). Python decides which;
 * pjsip's registration client (pjsip_regc) keeps each, with the account's credentials and a copy of its REGISTER.
 *
 * One mutex guards them; but for wake and plain getters of pjsip's nothing is called with it held. The clients are used
 * by one thread at a time: pjsip's polling thread, or a Python thread that detaches.
 */
#pragma once

#include "layout.h"
#include "pjfail.h"

/* Begins to take jobs; wake is called under the lock. Attaching thread. */
void standby_open(void (*wake)(void));

/* Lets go of all standbys. Nobody is inside the gate, no lock held. */
void standby_close(void);

/* Does the jobs that wait. pjsip's polling thread, or pf_standby_end_all()'s; no lock of ours or pjsip's held. */
void standby_run(void);

/* Returns whether the REGISTER is a standby's, and fills in its server. Any SIP thread, whatever it holds. */
int standby_server_of(pjsip_msg *request, pf_address *server);

/*
 * Keeps a copy of an account's own REGISTER, for its standbys; where that removes the account's binding, ends them.
 * The thread that sends it.
 */
void standby_on_register(int account, pjsip_tx_data *request, int removes);

/*
 * Notes whether an account's Contact is what its server sees of it: then a standby's is what that one's server sees.
 * The SIP thread that has received the response, a 2xx to the account's own REGISTER.
 */
void standby_on_registered(int account, pjsip_msg *response);

/* Tells the worker where a standby's connection has ended. Any SIP thread. */
void standby_on_transport_state(const pjsip_transport *transport, pjsip_transport_state state);
