/*
 * accounts.h: reads and changes pjsua's accounts. pjfail.h declares what Python calls.
 */
#pragma once

#include "host.h"
#include "pjfail.h"

/*
 * Writes a name-addr's or SIP URI's "user@host[:port]", the host in lower case. Returns 0 if uri is neither, or too
 * long. Any thread.
 */
int accounts_write_aor(const pjsip_uri *uri, char *aor, size_t size);

/* Fills in account. Returns a PF_ result. Any thread that pjsip knows; takes pjsua's lock. */
int accounts_read(int id, pf_account *account);

/*
 * Gives a registration client the account's credentials and what it is bound to (transportId, ipv6Use), if the account
 * still has this AOR. Returns PJ_ENOTFOUND if not. Any thread that pjsip knows; takes pjsua's lock.
 */
pj_status_t accounts_lend_credentials(int id, const char *aor, pjsip_regc *regc);

/*
 * Has pjsua treat the Contact of the account with this AOR as its configuration says with allow_contact_rewrite at to, where it
 * is at from. With an id of PJSUA_INVALID_ID the account is looked for. Returns the account's id; PJSUA_INVALID_ID: there is no such
 * account, the value is another, or the Contact does not follow the connection anyway. Any thread that pjsip knows; takes pjsua's lock.
 */
int accounts_set_contact_rewrite(int id, const char *aor, int from, int to);

/*
 * Keeps pjsua from looking up an account's domain by itself, until accounts_resume_lookups(). While attaching; nothing where it is
 * not known how (doctor says so).
 */
void accounts_stop_lookups(void);

/* Undoes accounts_stop_lookups(). While detaching, on any thread, or at the endpoint's end. */
void accounts_resume_lookups(void);

/*
 * Has pjsua close its connections, register all accounts with their new addresses, and refresh calls as each account says
 * (pjsua_handle_ip_change()). pjsip's polling thread, no lock held; pjsua's and those of its transports are taken.
 */
pj_status_t accounts_change_network(void);

/*
 * Calls pjsua_acc_set_affinity_addr(), or with family 0 pjsua_acc_refresh_transport(). Returns their status. Any
 * thread that pjsip knows; takes pjsua's lock.
 */
pj_status_t accounts_pin_natively(int id, const pf_address *server);
