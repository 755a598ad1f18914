#include "connections.h"

#include "address.h"
#include "hash_table.h"
#include "lock.h"
#include "raw_send.h"
#include "servers.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* A connect that takes longer counts as failed. */
#define CONNECT_TIMEOUT_S 5.0

/* For this long after a server refused a connection, we do not start another one ourselves. */
#define REFUSED_PAUSE_S 0.1

/* For this long the server is expected to refuse pjsip's next connection too. */
#define REFUSING_S 2.0

/*
 * A connection takes a key of pjsip's ioqueue, and keeps the key for half a second after it has ended. pjsip aborts
 * the program if no key is left. So while any connection has ended lately, new ones are allowed only as long as some
 * keys stay free, fewer of them for connects of our own; and a server with its full share of ended connections gets no
 * new one, so that others do. The limits are shares of the ioqueue's keys. Within that time we start at most
 * MAX_CONNECTS connects ourselves, and few to one server (REFUSED_PAUSE_S), so that not all servers of a dead fleet
 * are tried at once.
 */
#define KEY_REST_S 0.6
enum { SHARE_OF_SERVER = 4, LEFT_OVER = 16, LEFT_OVER_BY_US = 8, MAX_CONNECTS = 16 };

/* A server with connections, open or ended lately. */
struct peer {
    struct hash_link link; /* by server */
    pf_address server;
    unsigned refs;     /* one for each connection and each end */
    unsigned open, up; /* connections that have not ended; and those of them known to be established */
    unsigned ends;     /* within KEY_REST_S */
};

/*
 * A connection that carries our requests. One from before we attached counts as established once a response has come
 * over it.
 */
struct connection {
    struct hash_link link; /* by the transport's address */
    const pjsip_transport *transport;
    struct peer *peer; /* NULL: not opened by us */
    double since, connected_at;
    int connected;
    int ended;             /* and that is recorded */
    int counted;           /* among the ends */
    pjsip_transport *late; /* referenced, and listed: a request went to another server meanwhile */
    struct connection *late_next, **late_place;
};

/* A connection that ended within KEY_REST_S. */
struct end {
    struct end *next;
    double at;
    struct peer *peer; /* NULL: it was an incoming connection */
};

/* A connect that fails at once, within the answer's callback, causes no event except the transport's destruction. */
static __thread int answering;

/* lock guards writing; atomics are read without it. */
static struct {
    pthread_mutex_t lock;
    struct hash_table table, peers;
    struct connection *late;
    atomic_uint late_count;
    struct end *first_end, **last_end;
    unsigned ends;
    _Atomic double ended_at;       /* when the last one ended; 0: none has */
    double connects[MAX_CONNECTS]; /* when our own last connects began, a ring */
    unsigned connects_begun;
    void (*begin_ticks)(void); /* written while attaching */
} connections = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* --- servers, under connections.lock ------------------------------------------------------------------------------------ */

/* Returns the server's peer, made where there is none and make is set; NULL: none, or no memory. */
static struct peer *connections_peer_locked(const pf_address *server, int make)
{
    uint64_t hash = address_hash(server);
    struct hash_link *link;
    struct peer *peer;

    for (link = hash_table_first(&connections.peers, hash); link; link = hash_table_next(link)) {
        peer = entry_of(link, struct peer, link);
        if (!memcmp(&peer->server, server, sizeof *server))
            return peer;
    }
    peer = make ? calloc(1, sizeof *peer) : NULL;
    if (peer) {
        peer->server = *server;
        peer->link.hash = hash;
        if (!hash_table_put(&connections.peers, &peer->link)) {
            free(peer);
            peer = NULL;
        }
    }
    return peer;
}

static void connections_release_peer_locked(struct peer *peer)
{
    if (!peer || --peer->refs)
        return;
    hash_table_remove(&connections.peers, &peer->link);
    free(peer);
}

/* Drops the ends whose keys are free again. */
static void connections_expire_ends_locked(double now)
{
    struct end *end;

    while ((end = connections.first_end) != NULL && end->at + KEY_REST_S <= now) {
        connections.first_end = end->next;
        connections.ends--;
        if (end->peer)
            end->peer->ends--;
        connections_release_peer_locked(end->peer);
        free(end);
    }
}

/* Notes that a connection has ended; server is NULL for an incoming one. */
static void connections_add_end_locked(const pf_address *server)
{
    struct end *end = calloc(1, sizeof *end);
    const double now = clock_now();

    connections_expire_ends_locked(now);
    if (!end)
        return;
    end->at = now;
    end->peer = server ? connections_peer_locked(server, 1) : NULL;
    if (end->peer) {
        end->peer->refs++;
        end->peer->ends++;
    }
    if (!connections.first_end)
        connections.last_end = &connections.first_end;
    *connections.last_end = end;
    connections.last_end = &end->next;
    connections.ends++;
    atomic_store(&connections.ended_at, now);
}

/*
 * Returns whether pjsip can bear a new connection to the server, beside so many others that it may make for the same
 * request: each counts for as many threads, that answer at once, as keys are left over.
 */
static int connections_may_connect_locked(const pf_address *server, int by_hand, unsigned others)
{
    const unsigned keys = layout.keys ? layout.keys : PJSIP_MAX_TRANSPORTS;
    pjsip_endpoint *endpt = host.pjsua_get_pjsip_endpt();
    const struct peer *peer;
    unsigned used;

    connections_expire_ends_locked(clock_now());
    if (!connections.ends)
        return 1;
    peer = connections_peer_locked(server, 0);
    if (peer && peer->ends >= keys / SHARE_OF_SERVER)
        return 0;
    /* If pjsip's own count cannot be read, half of the keys count as in use. */
    used = others * (keys / LEFT_OVER) + connections.ends +
           (layout.keys && endpt ? ioqueue_used(host.pjsip_endpt_get_ioqueue(endpt)) : keys / 2);
    return used + keys / (by_hand ? LEFT_OVER_BY_US : LEFT_OVER) < keys;
}

/* --- connections, under connections.lock -------------------------------------------------------------------------------- */

static void connections_set_up_locked(struct connection *connection)
{
    if (connection->peer && !connection->connected && !connection->ended)
        connection->peer->up++;
    if (!connection->connected)
        connection->connected_at = clock_now();
    connection->connected = 1;
}

/* Returns the record of the transport, made where there is none and make is set; NULL: none, or no memory. */
static struct connection *connections_hold_locked(const pjsip_transport *transport, int make)
{
    uint64_t hash = hash_pointer(transport);
    struct connection *connection;
    struct hash_link *link;
    int made_before = 0;
    pf_address server;

    for (link = hash_table_first(&connections.table, hash); link; link = hash_table_next(link)) {
        connection = entry_of(link, struct connection, link);
        if (connection->transport == transport)
            return connection;
    }
    connection = make ? calloc(1, sizeof *connection) : NULL;
    if (connection) {
        connection->transport = transport;
        connection->since = clock_now();
        connection->link.hash = hash;
        if (!hash_table_put(&connections.table, &connection->link)) {
            free(connection);
            return NULL;
        }
        if (transport_is_outgoing(transport) &&
            address_of(&server, transport_peer(transport), transport_type(transport)))
            connection->peer = connections_peer_locked(&server, 1);
        made_before = !transport_is_outgoing(transport) || transport_has_received(transport);
        if (connection->peer) {
            connection->peer->refs++;
            connection->peer->open++;
        }
        if (made_before) /* by the server, or before we attached, so we did not see its CONNECTED */
            connections_set_up_locked(connection);
    }
    return connection;
}

static void connections_set_ended_locked(struct connection *connection)
{
    if (connection->peer && !connection->ended) {
        connection->peer->open--;
        connection->peer->up -= connection->connected != 0;
    }
    connection->ended = 1;
}

/* Lists the connection as late; takes over the reference to transport. */
static void connections_set_late_locked(struct connection *connection, pjsip_transport *transport)
{
    connection->late = transport;
    connection->late_next = connections.late;
    connection->late_place = &connections.late;
    if (connections.late)
        connections.late->late_place = &connection->late_next;
    connections.late = connection;
    atomic_fetch_add(&connections.late_count, 1);
}

static void connections_unlist_late_locked(struct connection *connection)
{
    if (!connection->late)
        return;
    *connection->late_place = connection->late_next;
    if (connection->late_next)
        connection->late_next->late_place = connection->late_place;
    connection->late = NULL;
    atomic_fetch_sub(&connections.late_count, 1);
}

static void connections_forget_locked(struct connection *connection)
{
    connections_unlist_late_locked(connection);
    connections_set_ended_locked(connection);
    connections_release_peer_locked(connection->peer);
    hash_table_remove(&connections.table, &connection->link);
    free(connection);
}

/* Returns whether there is a connection to the server; made: only count those known to be established. */
static int connections_has_locked(const pf_address *server, int made)
{
    const struct peer *peer = connections_peer_locked(server, 0);

    return peer && (made ? peer->up : peer->open);
}

/* --- what happens to them ---------------------------------------------------------------------------------------- */

void connections_carry(const pjsip_transport *transport)
{
    HOLD_LOCK(&connections.lock);
    connections_hold_locked(transport, 1);
}

void connections_on_answer(const pjsip_transport *transport)
{
    HOLD_LOCK(&connections.lock);
    struct connection *connection = connections_hold_locked(transport, 0);

    if (connection)
        connections_set_up_locked(connection);
}

/* Returns what pjsip found wrong with the server's certificate: PJ_SSL_CERT_E* bits, 0 for nothing. */
static unsigned connections_certificate_problem(const pjsip_transport_state_info *info)
{
    const pjsip_tls_state_info *tls;

    /*
     * If the endpoint does not verify certificates, there may be problems too, but they have not ended the connection.
     */
    if (!info || info->status != PJSIP_TLS_ECERTVERIF)
        return 0;
    tls = info->ext_info;
    if (tls && tls->ssl_sock_info && tls->ssl_sock_info->verify_status)
        return tls->ssl_sock_info->verify_status;
    return PJ_SSL_CERT_EUNKNOWN;
}

int connections_on_state(pjsip_transport *transport, pjsip_transport_state state,
                         const pjsip_transport_state_info *info, pf_outcome *outcome)
{
    int type = transport_type(transport), plain = type & ~PJSIP_TRANSPORT_IPV6;
    struct connection *connection;
    int failed = 0, cleared = 0, ours;

    memset(outcome, 0, sizeof *outcome);
    if (plain != PJSIP_TRANSPORT_TCP && plain != PJSIP_TRANSPORT_TLS)
        return 0;
    ours = transport_is_outgoing(transport) && address_of(&outcome->server, transport_peer(transport), type);
    outcome->retry_after = -1;
    outcome->status = info ? info->status : PJ_SUCCESS;
    pthread_mutex_lock(&connections.lock);
    connection = connections_hold_locked(transport, ours && state == PJSIP_TP_STATE_CONNECTED);
    /* pjsip closes the socket of TLS when a handshake fails or the server closes it, however long the transport stays. */
    if (state == PJSIP_TP_STATE_DESTROY || (state == PJSIP_TP_STATE_DISCONNECTED && plain == PJSIP_TRANSPORT_TLS)) {
        if (!connection || !connection->counted)
            connections_add_end_locked(ours ? &outcome->server : NULL);
        if (connection)
            connection->counted = 1;
    }
    if (!connection) {
        outcome->seen = PF_REFUSED;
        failed = ours && state == PJSIP_TP_STATE_DESTROY && answering;
    } else if (state == PJSIP_TP_STATE_CONNECTED) {
        connections_set_up_locked(connection);
        cleared = connection->late && !connection->ended;
    } else if (state == PJSIP_TP_STATE_DISCONNECTED || state == PJSIP_TP_STATE_DESTROY) {
        failed = ours && !connection->ended;
        outcome->certificate = connection->connected ? 0 : connections_certificate_problem(info);
        outcome->seen = connection->connected ? PF_DISCONNECTED : outcome->certificate ? PF_CERTIFICATE : PF_REFUSED;
        connections_set_ended_locked(connection);
        if (state == PJSIP_TP_STATE_DESTROY)
            connections_forget_locked(connection);
    }
    pthread_mutex_unlock(&connections.lock);
    if (cleared)
        servers_clear_suspect(&outcome->server);
    return failed;
}

/* Returns whether keys may be held by connections that have ended. */
static int connections_any_ended_lately(void)
{
    double ended_at = atomic_load_explicit(&connections.ended_at, memory_order_relaxed);

    return ended_at > 0 && clock_now() < ended_at + KEY_REST_S;
}

/*
 * Returns the servers for which pjsip needs no new connection, or can bear one, a bit each. Where all refuse at once, pjsip
 * goes through the whole list, and each connection takes a key.
 */
static unsigned connections_list_borne_locked(const pjsip_server_addresses *addresses)
{
    unsigned total = addresses_count(addresses), borne = 0, made = 0, i;
    pf_address server;

    for (i = 0; i < total; i++)
        if (!address_of(&server, addresses_address(addresses, i), addresses_type(addresses, i)) ||
            server.transport == PF_UDP || connections_has_locked(&server, 1)) {
            borne |= 1u << i;
        } else if (connections_may_connect_locked(&server, 0, made)) {
            borne |= 1u << i;
            made++;
        }
    return borne;
}

/* Returns whether a connect to this server would most likely fail at once. */
static int connections_is_refusing(const pjsip_server_addresses *addresses, unsigned index)
{
    pf_address server;

    return address_of(&server, addresses_address(addresses, index), addresses_type(addresses, index)) &&
           servers_failed_within(&server, REFUSING_S);
}

/* Writes to ordered the servers that are borne, then one that a request may go on to, so that they do not fail all at once. */
static void connections_put_borne_first(const pjsip_server_addresses *addresses, unsigned borne,
                                        server_addresses *ordered)
{
    unsigned total = addresses_count(addresses), count = 0, i;

    for (i = 0; i < total; i++)
        if (borne & 1u << i)
            addresses_copy(ordered, count++, addresses, i);
    for (i = 0; i < total && ((borne & 1u << i) || connections_is_refusing(addresses, i)); i++)
        ;
    if (i < total)
        addresses_copy(ordered, count++, addresses, i);
    addresses_set_count(ordered, count);
}

int connections_bear(const pjsip_server_addresses *addresses)
{
    int refusing, bear = 1;
    pf_address server;

    refusing = addresses_count(addresses) &&
               address_of(&server, addresses_address(addresses, 0), addresses_type(addresses, 0)) &&
               server.transport != PF_UDP && servers_failed_within(&server, REFUSING_S);
    if (refusing || connections_any_ended_lately()) {
        pthread_mutex_lock(&connections.lock);
        bear = refusing ? connections_has_locked(&server, 1) : connections_list_borne_locked(addresses) != 0;
        pthread_mutex_unlock(&connections.lock);
    }
    return bear;
}

void connections_answer(pjsip_resolver_callback *callback, pj_status_t status, void *token,
                        const pjsip_server_addresses *addresses)
{
    server_addresses ordered;
    unsigned borne;

    if (addresses && connections_any_ended_lately()) {
        pthread_mutex_lock(&connections.lock);
        borne = connections_list_borne_locked(addresses);
        pthread_mutex_unlock(&connections.lock);
        if (borne) {
            connections_put_borne_first(addresses, borne, &ordered);
            addresses = &ordered.addresses;
        } else {
            addresses = NULL;
            status = PJ_ETOOMANYCONN;
        }
    }
    answering++;
    callback(status, token, addresses);
    answering--;
}

/* Counts a connect by hand, where the server needs one. Returns 0 when that would be in vain, or one too many. SIP threads. */
static int connections_begin_connect(const pf_address *server)
{
    HOLD_LOCK(&connections.lock);
    double now = clock_now(), *oldest = &connections.connects[connections.connects_begun % MAX_CONNECTS];

    /* One that is not established may have failed by now, with pjsip about to tell. */
    if (connections_has_locked(server, 0) &&
        (connections_has_locked(server, 1) || connections_may_connect_locked(server, 1, 0)))
        return 1;
    if (servers_failed_within(server, REFUSED_PAUSE_S) ||
        (connections.connects_begun >= MAX_CONNECTS && now < *oldest + KEY_REST_S) ||
        !connections_may_connect_locked(server, 1, 0))
        return 0;
    *oldest = now;
    connections.connects_begun++;
    return 1;
}

pj_status_t connections_connect(const pf_address *server, const char *host_name, const pjsip_tpselector *selector,
                                pjsip_transport **connection)
{
    return connections_begin_connect(server) ? connections_acquire(server, host_name, selector, connection)
                                             : PJ_ETOOMANYCONN;
}

pj_status_t connections_acquire(const pf_address *server, const char *host_name, const pjsip_tpselector *selector,
                                pjsip_transport **transport)
{
    pj_status_t status;
    int none = 0;

    if (server->transport != PF_UDP && connections_any_ended_lately()) {
        pthread_mutex_lock(&connections.lock);
        none = !connections_has_locked(server, 1) && !connections_may_connect_locked(server, 0, 0);
        pthread_mutex_unlock(&connections.lock);
    }
    if (none)
        return PJ_ETOOMANYCONN;
    answering++;
    status = raw_send_connect(server, host_name, selector, transport);
    answering--;
    if (status == PJ_SUCCESS && server->transport != PF_UDP)
        connections_carry(*transport);
    return status;
}

void connections_watch_late(pjsip_transport *transport, const pf_address *server, int suspect)
{
    struct connection *connection;
    int taken;

    pthread_mutex_lock(&connections.lock);
    connection = connections_hold_locked(transport, 1);
    taken = connection && !connection->late;
    if (taken)
        connections_set_late_locked(connection, transport);
    pthread_mutex_unlock(&connections.lock);
    if (suspect)
        servers_suspect(server);
    if (taken)
        connections.begin_ticks();
    else
        host.pjsip_transport_dec_ref(transport);
}

int connections_knows(const pjsip_transport *transport)
{
    HOLD_LOCK(&connections.lock);
    struct connection *connection = connections_hold_locked(transport, 0);

    return connection && !connection->ended;
}

int connections_has_ended_under(const pjsip_tx_data *request)
{
    const pjsip_method *method = &tdata_msg(request)->line.req.method;
    const pjsip_server_addresses *addresses = tdata_addresses(request);
    const unsigned next = tdata_current(request) + 1;
    const pjsip_to_hdr *to;
    struct connection *connection;
    int ended;

    if (transport_is_udp(tdata_transport(request)))
        return 0;
    to = host.pjsip_msg_find_hdr(tdata_msg(request), PJSIP_H_TO, NULL);
    /* A request that belongs to another one, or to a dialog, goes where that went. */
    if (method->id == PJSIP_ACK_METHOD || method->id == PJSIP_CANCEL_METHOD || !to || to->tag.slen)
        return 0;
    /* The next server must not fail at once either: see connections_bear(). */
    if (next >= addresses_count(addresses) || connections_is_refusing(addresses, next))
        return 0;
    pthread_mutex_lock(&connections.lock);
    connection = connections_hold_locked(tdata_transport(request), 0);
    ended = connection && connection->ended;
    pthread_mutex_unlock(&connections.lock);
    return ended;
}

int connections_is_up(const pjsip_transport *transport)
{
    HOLD_LOCK(&connections.lock);
    struct connection *connection = connections_hold_locked(transport, 0);

    return connection && connection->connected && !connection->ended;
}

int connections_is_new(const pjsip_transport *transport, double seconds)
{
    if (transport_is_udp(transport))
        return 0;
    HOLD_LOCK(&connections.lock);
    struct connection *connection = connections_hold_locked(transport, 0);

    if (!connection)
        return 1;
    return !connection->connected || clock_now() < connection->connected_at + seconds;
}

int connections_has(const pf_address *server)
{
    HOLD_LOCK(&connections.lock);
    return connections_has_locked(server, 1);
}

/* --- time -------------------------------------------------------------------------------------------------------- */

/* A connect that was late: established now, failed, or too slow. */
struct late {
    pjsip_transport *transport;
    pf_address server;
    int expired;
};

/* Takes out the late connections that are settled (all: every one). The caller owns their references. */
static int connections_take_late_locked(double now, double polled_since, struct late *late, int room, int all)
{
    struct connection *connection, *next;
    int count = 0;

    for (connection = connections.late; connection && count < room; connection = next) {
        int expired = !connection->connected && !connection->ended &&
                      now - fmax(connection->since, polled_since) > CONNECT_TIMEOUT_S;

        next = connection->late_next;
        if (!(connection->connected || connection->ended || expired || all))
            continue;
        memset(&late[count], 0, sizeof late[count]);
        late[count].transport = connection->late;
        if (connection->peer)
            late[count].server = connection->peer->server;
        late[count++].expired = expired && !all;
        connections_unlist_late_locked(connection);
        if (expired)
            connections_set_ended_locked(connection);
    }
    return count;
}

static void connections_report_timeout(const pf_address *server)
{
    pf_outcome outcome;

    memset(&outcome, 0, sizeof outcome);
    outcome.seen = PF_REFUSED;
    outcome.retry_after = -1;
    outcome.status = PJ_ETIMEDOUT;
    servers_record_failure(server, &outcome);
}

void connections_tick(double now, double polled_since)
{
    enum { BATCH = 32 };
    struct late late[BATCH];
    int count, i;

    pthread_mutex_lock(&connections.lock);
    count = connections_take_late_locked(now, polled_since, late, BATCH, 0);
    pthread_mutex_unlock(&connections.lock);
    for (i = 0; i < count; i++) {
        if (late[i].expired) {
            connections_report_timeout(&late[i].server);
            host.pjsip_transport_shutdown2(late[i].transport, PJ_FALSE); /* no other request must wait for it */
        }
        host.pjsip_transport_dec_ref(late[i].transport);
    }
}

/* In one order with poller.resting, which its caller has written before: a relaxed load may be made before that on ARM. */
int connections_are_late(void) { return atomic_load(&connections.late_count) != 0; }

static void connections_drop_locked(struct hash_link *link)
{
    struct connection *connection = entry_of(link, struct connection, link);

    connections_set_ended_locked(connection);
    connections_release_peer_locked(connection->peer);
    free(connection);
}

void connections_open(void (*begin_ticks)(void)) { connections.begin_ticks = begin_ticks; }

void connections_clear(void)
{
    struct late late[16];
    int count, i;

    do {
        pthread_mutex_lock(&connections.lock);
        count = connections_take_late_locked(0, 0, late, PJ_ARRAY_SIZE(late), 1);
        pthread_mutex_unlock(&connections.lock);
        for (i = 0; i < count; i++)
            host.pjsip_transport_dec_ref(late[i].transport);
    } while (count == PJ_ARRAY_SIZE(late));
    pthread_mutex_lock(&connections.lock);
    /* The ends stay, because their keys are still in use at the next attach. */
    hash_table_clear(&connections.table, &connections_drop_locked);
    pthread_mutex_unlock(&connections.lock);
}
