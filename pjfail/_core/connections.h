/*
 * connections.h: the TCP and TLS connections that carry our requests: which are up, late, or ended; and how many new
 * ones pjsip can bear.
 *
 * One mutex; that of servers.c may be taken inside.
 */
#pragma once

#include "layout.h"
#include "pjfail.h"

/* A request goes over the connection; or an answer has come over it. SIP threads. */
void connections_carry(const pjsip_transport *transport);
void connections_on_answer(const pjsip_transport *transport);

/*
 * Called by the transport manager's state callback. Returns whether the connection has ended. Then fills in what that
 * says about its server, except the times and, for a connection that was up (PF_DISCONNECTED), whether a request was
 * lost.
 */
int connections_on_state(pjsip_transport *transport, pjsip_transport_state state,
                         const pjsip_transport_state_info *info, pf_outcome *outcome);

/*
 * Returns whether this answer will not fail at once, by connections_answer() itself or because a server refuses
 * connections. If it may, do not answer on the thread that is sending: within that call pjsip terminates the failed
 * transaction a second time, when another thread may have freed it. Any thread.
 */
int connections_bear(const pjsip_server_addresses *addresses);

/*
 * Calls back with an answer. Connects that it starts are recognised by happening inside. While pjsip may run short of
 * ioqueue keys, servers that need no new connection, or may have one, come first; if there is none, the status is
 * PJ_ETOOMANYCONN. Any SIP thread.
 */
void connections_answer(pjsip_resolver_callback *callback, pj_status_t status, void *token,
                        const pjsip_server_addresses *addresses);

/*
 * Does what raw_send_connect() does, and watches the connection. Returns PJ_ETOOMANYCONN if there is no connection to
 * the server, and the server has just refused one, too many were started lately, or pjsip may run short of keys.
 */
pj_status_t connections_connect(const pf_address *server, const char *host_name, pjsip_transport **connection);

/*
 * Like connections_connect(), for callers that accept only this server: ignores recent failures and the limit on
 * connects. Fails if pjsip is short of ioqueue keys. Serves UDP too. A SIP thread that holds no lock of ours.
 */
pj_status_t connections_acquire(const pf_address *server, const char *host_name, pjsip_transport **transport);

/*
 * Called when a request no longer waits for this connection: the server is suspect until the connection is
 * established, and a connection that never is gets closed. Takes over the reference to transport.
 */
void connections_watch_late(pjsip_transport *transport, const pf_address *server);

/* Returns whether this connection exists, established or connecting. */
int connections_knows(const pjsip_transport *transport);

/*
 * Returns whether a request is about to be sent on a connection that has ended, while pjsip has another server for it.
 * If pjsip learns of the failure here, it tries that server; otherwise it waits for an answer. Called while the
 * request is sent, with its transaction's lock held.
 */
int connections_has_ended_under(const pjsip_tx_data *request);

/* Returns whether this connection is known to be established. */
int connections_is_up(const pjsip_transport *transport);

/* Returns whether this connection of ours was not yet up so many seconds ago. */
int connections_is_new(const pjsip_transport *transport, double seconds);

/* Returns whether any connection to the server is known to be up. */
int connections_has(const pf_address *server);

/*
 * Handles late connections that are established by now, or have failed. Call it while any connection is late. pjsip's
 * polling thread.
 */
void connections_tick(double now);
int connections_are_late(void);

/* Detaching thread. */
void connections_clear(void);
