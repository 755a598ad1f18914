/*
 * affinity.h: keeps accounts on their servers (pins), whatever the plan says.
 *
 * One mutex guards the pins; nothing but wake is called with it held. Calls to pjsua run on pjsip's polling thread, where
 * pjsua's own timers make the same calls, so that no Python thread waits for pjsua's lock.
 */
#pragma once

#include "layout.h"
#include "request_info.h"

/* Begins to take pins and jobs; wake is called under the lock. Attaching thread. */
void affinity_open(void (*wake)(void));

/* Drops all pins and jobs. Nobody is inside the gate, no lock held. */
void affinity_close(void);

/*
 * Returns whether a request to an account's own next hop goes to one server alone, that of its account's pin or of
 * its own dialog, and fills in info with that server. Tells info, too, where a followed account's server is only to
 * be the first. Any SIP thread, whatever it holds.
 */
int affinity_answer(const pf_target *target, pjsip_msg *request, struct request_info *info);

/*
 * No account; none because the REGISTER says nothing of where the account is: one without a Contact asks for bindings and changes none
 * (RFC 3261 10.2.3), and one of a standby leaves the account's own as it is; and some account that is not followed, where the worker
 * wants to know of those.
 */
enum { AFFINITY_NO_ACCOUNT = -1, AFFINITY_BESIDE = -2, AFFINITY_NOT_FOLLOWED = -3 };

/* Returns whether the worker wants to know of the REGISTERs of accounts that are not followed. Any thread. */
int affinity_finds_accounts(void);

/*
 * The followed account that a REGISTER is of, or its response; else a negative number. For a request next_hop is filled in where it
 * is of an account; a response says what this returned of its request, for its account may be followed only since. Any SIP thread.
 */
int affinity_registers(pjsip_tx_data *request, pf_target *next_hop);
int affinity_registered(pjsip_msg *response, int account);

/* Fills in where a request goes, as its account has it. Returns 0 where that is not a target. Any SIP thread. */
int affinity_next_hop(pjsip_tx_data *tdata, pf_target *target);

/*
 * Reports a REGISTER to the worker: message is the REGISTER, just sent to next_hop (code 0), or the response to it
 * (next_hop NULL), which answered sent. Any SIP thread.
 */
void affinity_tell(int account, pjsip_msg *message, const pf_target *next_hop, const pf_address *server,
                   const pf_address *answered, int code, int retry_after, int removed);

/* Returns whether the account that the response is for is on the server. Any SIP thread. */
int affinity_is_on(int account, pjsip_msg *response, const pf_address *server);

/* Returns the keepalive of the account that the response is for, in seconds; 0: none. Any SIP thread. */
double affinity_keepalive(int account, pjsip_msg *response);

/* Has pjsua do the jobs that wait. pjsip's polling thread, no lock held. */
void affinity_run(void);
