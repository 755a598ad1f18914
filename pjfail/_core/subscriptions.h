/*
 * subscriptions.h: the presence, dialog and message-summary subscriptions of followed accounts, each with the server that
 * accepted it; has pjsua make them anew when the account has moved.
 *
 * One mutex; nothing but pjsip_evsub_get_state(), which takes no lock, is called with it held.
 */
#pragma once

#include "layout.h"
#include "pjfail.h"

/* In place of an account's number: the account is not followed yet. */
enum { SUBSCRIPTIONS_UNKNOWN = -1 };

/*
 * Notes the subscription that the server has accepted with this 2xx, for the account. A SIP thread that holds no lock of ours
 * and no transaction's.
 */
void subscriptions_on_success(int account, pjsip_rx_data *rdata, const pf_address *server);

/*
 * Ends the account's subscriptions at other servers, without a word to these, and has pjsua subscribe again. pjsip's polling
 * thread, no lock held.
 */
void subscriptions_move(int account, const char *aor, const pf_address *server);

/* The account is followed from now on: it gets the subscriptions that were noted for its AOR before. Python threads. */
void subscriptions_adopt(int account, const char *aor);

/* Leaves the account's subscriptions as they are. A thread that pjsip knows, no lock held. */
void subscriptions_forget(int account, const char *aor);

/* Drops all records. Nobody is inside the gate, no lock held. */
void subscriptions_clear(void);
