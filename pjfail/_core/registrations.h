/*
 * registrations.h: the connection that answered each account's last REGISTER, for the worker to hear of its end.
 *
 * One mutex; the event queue's may be taken inside. One record at the most for each account; MAX_UNKNOWN bounds those of
 * accounts that are not followed yet.
 */
#pragma once

#include "layout.h"

/* In place of an account's number: the account is not followed yet. */
enum { REGISTRATIONS_UNKNOWN = -1 };

/*
 * Notes the connection of a 2xx to an account's REGISTER. Forgets the account's connection instead where that was UDP, or where
 * the REGISTER removes the binding. A connection that is new here gets this keepalive (see keepalive_set()). A SIP thread.
 */
void registrations_on_success(int account, pjsip_msg *response, const pjsip_transport *transport, int removed,
                              double keepalive);

/*
 * The account is followed from now on: it gets the connection that was noted for its AOR before, and that this keepalive.
 * Python threads.
 */
void registrations_adopt(int account, const char *aor, double keepalive);

/* The account is about to unregister, or is followed no more: its connection's end concerns nobody. Any thread. */
void registrations_forget(int account, const char *aor);
void registrations_on_removal(int account, pjsip_msg *request);

/*
 * Tells the worker of each account whose connection has ended, unless this process closed it. The thread that tells of the
 * state, after pjsua has heard of it.
 */
void registrations_on_transport_state(const pjsip_transport *transport, pjsip_transport_state state,
                                      const pjsip_transport_state_info *info);

/* Drops all records. Nobody is inside the gate, no lock held. */
void registrations_clear(void);
