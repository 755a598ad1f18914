/*
 * contact.h: has pjsua put right the port in the Contact of an account over TCP or TLS.
 *
 * Stock pjsua connects before it writes the Contact, so as to name the connection's port (natConfig.contactUseSrcPort): only there
 * can a registrar reach a program behind a NAT, or one without a certificate. With pjfail it does not, for that takes a lookup
 * (accounts_stop_lookups()), and where a request goes is known only later. From the answer to a REGISTER pjsua learns what the server
 * saw, and puts its Contact right; but not in a private network if only the port differs, unless contactRewriteUse is 2
 * (acc_check_nat_addr(), pjsua_acc.c). So it is 2 while pjsua hears of such an answer.
 *
 * SIP threads, outside the gate and without a lock: the application's callbacks run inside. Takes pjsua's lock, as pjsua itself does a
 * moment later for the same answer.
 */
#pragma once

#include "layout.h"

/* A REGISTER: the followed account that it is of, negative: not known; and the port in its Contact, 0: none that follows. */
struct contact_sent {
    int account;
    int port;
};

/*
 * Where the answer to that REGISTER shows that its Contact has another port than its connection, passes the answer on to pjsip's other
 * modules so that pjsua puts the Contact right: in the REGISTER that answers a challenge, else in one more. Returns whether it
 * has passed it on.
 */
pj_bool_t contact_put_right(pjsip_rx_data *answer, const struct contact_sent *sent);

/* Returns the port in the Contact of the REGISTER. Any thread. */
int contact_port_of(const pjsip_msg *request);
