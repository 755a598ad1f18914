/*
 * connections.h: the TCP and TLS connections that carry our requests: which are up, late, or ended; and how many new
 * ones pjsip can bear.
 *
 * One mutex; that of servers.c may be taken inside.
 */
#pragma once

#include "layout.h"
#include "pjfail.h"

/* Notes that a request goes over the connection. SIP threads. */
void connections_carry(const pjsip_transport *transport);

/* Notes that a response has come over the connection, which therefore is up. SIP threads. */
void connections_on_answer(const pjsip_transport *transport);

/*
 * Returns whether the connection has ended, and fills in outcome with what that tells of its server, but for the
 * times and, where it was up (PF_DISCONNECTED), without knowing whether a request was lost. The thread that tells of
 * the state, no lock of ours held.
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
 * Finds or begins a connection by raw_send_connect(), and watches what becomes of it. Returns PJ_ETOOMANYCONN when
 * the server has none, and has just refused one, too many were begun lately, or pjsip may run short of keys. A SIP
 * thread that holds no lock of ours.
 */
pj_status_t connections_connect(const pf_address *server, const char *host_name, const pjsip_tpselector *selector,
                                pjsip_transport **connection);

/*
 * Finds or begins a connection as connections_connect() does, for a caller that accepts only this server: ignores
 * recent failures and the number of connects, but not a shortage of keys. Over UDP finds the transport. A SIP thread
 * that holds no lock of ours.
 */
pj_status_t connections_acquire(const pf_address *server, const char *host_name, const pjsip_tpselector *selector,
                                pjsip_transport **transport);

/*
 * Somebody has waited for that connection long enough: its server is suspect (where suspect is set) until it is there, and it is closed
 * when it never is. Takes over the reference to transport.
 */
void connections_watch_late(pjsip_transport *transport, const pf_address *server, int suspect);

/* Returns whether that connection is there still, or in the making. SIP threads. */
int connections_knows(const pjsip_transport *transport);

/*
 * Returns whether a request is about to be sent on a connection that has ended, while pjsip has another server for it.
 * If pjsip learns of the failure here, it tries that server; otherwise it waits for an answer. Called while the
 * request is sent, with its transaction's lock held.
 */
int connections_has_ended_under(const pjsip_tx_data *request);

/* Returns whether that connection is known to be up. SIP threads. */
int connections_is_up(const pjsip_transport *transport);

/*
 * Returns whether that connection may not have been up so many seconds ago: of one that came up while we were
 * detached, nobody has told us. SIP threads.
 */
int connections_is_new(const pjsip_transport *transport, double seconds);

/* Returns whether any connection to the server is known to be up. SIP threads. */
int connections_has(const pf_address *server);

/*
 * Handles late connections that are established by now, or have failed. Call it while any connection is late. pjsip's
 * polling thread.
 */
void connections_tick(double now, double polled_since);
int connections_are_late(void);

/* begin_ticks: has connections_tick() called soon, and again. While attaching. */
void connections_open(void (*begin_ticks)(void));

/* Drops all records of connections. Nobody is inside the gate, no lock held. */
void connections_clear(void);
