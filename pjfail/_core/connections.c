#include "connections.h"

#include "byhand.h"
#include "plans.h"
#include "table.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* A connect that takes longer has failed, as far as anybody waits for it. */
#define CONNECT_SECONDS 5.0

/* A server that has just refused a connection is taken at its word: nobody asks again by hand for so long. */
#define REFUSAL 0.1

/* For so long it is taken for one that refuses the next connection at once, too. */
#define REFUSING 2.0

/*
 * A connection takes a key of pjsip's ioqueue, and keeps it for half a second once it has ended. With none left pjsip aborts the
 * program. So many are opened by hand at the most within that time; and once so many have ended, none is made at all.
 * PJSIP_MAX_TRANSPORTS is that of the headers, which in all versions is 64 as they come: the host's own can be read nowhere.
 */
#define KEY_SECONDS 0.6
enum { MOST_CONNECTS = 16, MOST_ENDS = PJSIP_MAX_TRANSPORTS / 2 };

/* A connection that carries requests of ours. One from before we attached is taken for connected once it brings an answer. */
struct connection {
    struct link link;           /* by the transport's address */
    const pjsip_transport *transport;
    pf_address server;          /* family 0: one that is no connection of ours */
    double since;
    int connected;
    pjsip_transport *late;      /* referenced: somebody went elsewhere meanwhile */
    int ended;                  /* and noted */
};

/* A connect that fails at once ends, within the answer's callback, without any event but the transport's destruction. */
static __thread int answering;

/* Guarded by lock. */
static struct {
    pthread_mutex_t lock;
    struct table table;
    double connects[MOST_CONNECTS];     /* when the last were begun by hand, a ring */
    unsigned connects_begun;
    double ends[MOST_ENDS];             /* when connections have ended, a ring */
    unsigned ended;
    _Atomic double short_until;         /* of keys; read without the lock */
} self = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* Under self.lock. NULL when there is no memory. */
static struct connection *hold(const pjsip_transport *transport, int make)
{
    uint64_t hash = hash_bytes(HASH_SEED, &transport, sizeof transport);
    struct connection *connection;
    struct link *link;

    for (link = table_first(&self.table, hash); link; link = table_next(link)) {
        connection = entry_of(link, struct connection, link);
        if (connection->transport == transport)
            return connection;
    }
    connection = make ? calloc(1, sizeof *connection) : NULL;
    if (connection) {
        connection->transport = transport;
        connection->since = host_now();
        connection->link.hash = hash;
        if (!transport_is_outgoing(transport) ||
            !address_of(&connection->server, transport_peer(transport), transport_type(transport)))
            memset(&connection->server, 0, sizeof connection->server);
        if (!table_put(&self.table, &connection->link)) {
            free(connection);
            connection = NULL;
        }
    }
    return connection;
}

void connections_carry(const pjsip_transport *transport)
{
    pthread_mutex_lock(&self.lock);
    hold(transport, 1);
    pthread_mutex_unlock(&self.lock);
}

void connections_note_answer(const pjsip_transport *transport)
{
    struct connection *connection;

    pthread_mutex_lock(&self.lock);
    connection = hold(transport, 0);
    if (connection)
        connection->connected = 1;
    pthread_mutex_unlock(&self.lock);
}

/* What pjsip found wrong with the server's certificate: PJ_SSL_CERT_E* bits, 0 for nothing. */
static unsigned certificate_problem(const pjsip_transport_state_info *info)
{
    const pjsip_tls_state_info *tls;

    /* Where the endpoint does not verify, there may be problems too, but they are not why the connection ended. */
    if (!info || info->status != PJSIP_TLS_ECERTVERIF)
        return 0;
    tls = info->ext_info;
    if (tls && tls->ssl_sock_info && tls->ssl_sock_info->verify_status)
        return tls->ssl_sock_info->verify_status;
    return PJ_SSL_CERT_EUNKNOWN;
}

int connections_on_state(pjsip_transport *transport, pjsip_transport_state state, const pjsip_transport_state_info *info,
                         pf_outcome *outcome)
{
    int type = transport_type(transport), plain = type & ~PJSIP_TRANSPORT_IPV6;
    struct connection *connection;
    int failed = 0, cleared = 0;

    memset(outcome, 0, sizeof *outcome);
    if ((plain != PJSIP_TRANSPORT_TCP && plain != PJSIP_TRANSPORT_TLS) || !transport_is_outgoing(transport) ||
        !address_of(&outcome->server, transport_peer(transport), type))
        return 0;
    outcome->retry_after = -1;
    outcome->status = info ? info->status : PJ_SUCCESS;
    pthread_mutex_lock(&self.lock);
    if (state == PJSIP_TP_STATE_DESTROY) {
        self.ends[self.ended++ % MOST_ENDS] = host_now();
        if (self.ended >= MOST_ENDS)
            atomic_store(&self.short_until, self.ends[self.ended % MOST_ENDS] + KEY_SECONDS);
    }
    connection = hold(transport, state == PJSIP_TP_STATE_CONNECTED);
    if (!connection) {
        outcome->seen = PF_REFUSED;
        failed = state == PJSIP_TP_STATE_DESTROY && answering;
    } else if (state == PJSIP_TP_STATE_CONNECTED) {
        connection->connected = 1;
        cleared = connection->late && !connection->ended;
    } else if (state == PJSIP_TP_STATE_DISCONNECTED || state == PJSIP_TP_STATE_DESTROY) {
        failed = !connection->ended;
        connection->ended = 1;
        outcome->certificate = connection->connected ? 0 : certificate_problem(info);
        outcome->seen = connection->connected ? PF_DISCONNECTED : outcome->certificate ? PF_CERTIFICATE : PF_REFUSED;
        if (state == PJSIP_TP_STATE_DESTROY) {
            table_remove(&self.table, &connection->link);
            free(connection);
        }
    }
    pthread_mutex_unlock(&self.lock);
    if (cleared)
        plans_clear_of_suspicion(&outcome->server);
    return failed;
}

/* Under self.lock. Whether there is a connection to the server; made: that is known to be up. */
static int has_connection(const pf_address *server, int made)
{
    struct link *link;
    size_t i;

    for (i = 0; i < self.table.size; i++)
        for (link = self.table.buckets[i]; link; link = link->next) {
            const struct connection *connection = entry_of(link, struct connection, link);

            if ((connection->connected || !made) && !connection->ended &&
                !memcmp(&connection->server, server, sizeof *server))
                return 1;
        }
    return 0;
}

/* Whether pjsip might run out of keys. */
static int keys_are_short(void)
{
    double until = atomic_load_explicit(&self.short_until, memory_order_relaxed);

    return until > 0 && host_now() < until;
}

/* Under self.lock. Whether pjsip needs no new connection for the server. */
static int is_connected(const pjsip_server_addresses *addresses, unsigned index)
{
    pf_address server;

    return address_of(&server, answer_address(addresses, index), answer_type(addresses, index)) &&
           (server.transport == PF_UDP || has_connection(&server, 0));
}

/* Whether a connect to the server would fail at once, most likely. */
static int is_refusing(const pjsip_server_addresses *addresses, unsigned index)
{
    pf_address server;

    return address_of(&server, answer_address(addresses, index), answer_type(addresses, index)) &&
           plans_failed_within(&server, REFUSING);
}

/* Under self.lock. */
static int is_any_connected(const pjsip_server_addresses *addresses)
{
    unsigned total = answer_count(addresses), i;

    for (i = 0; i < total; i++)
        if (is_connected(addresses, i))
            return 1;
    return 0;
}

/* Under self.lock. The servers that are connected, then those that a request may go on to, so that they do not fail all at once. */
static void put_connected_first(const pjsip_server_addresses *addresses, answer *ordered)
{
    unsigned total = answer_count(addresses), count = 0, i;

    for (i = 0; i < total; i++)
        if (is_connected(addresses, i))
            answer_copy(ordered, count++, addresses, i);
    for (i = 0; i < total; i++)
        if (!is_connected(addresses, i) && !is_refusing(addresses, i))
            answer_copy(ordered, count++, addresses, i);
    answer_set_count(ordered, count);
}

int connections_bear(const pjsip_server_addresses *addresses)
{
    int refusing, bear = 1;
    pf_address server;

    refusing = answer_count(addresses) && address_of(&server, answer_address(addresses, 0), answer_type(addresses, 0)) &&
               server.transport != PF_UDP && plans_failed_within(&server, REFUSING);
    if (refusing || keys_are_short()) {
        pthread_mutex_lock(&self.lock);
        bear = refusing ? has_connection(&server, 1) : is_any_connected(addresses);
        pthread_mutex_unlock(&self.lock);
    }
    return bear;
}

void connections_answer(pjsip_resolver_callback *callback, pj_status_t status, void *token,
                        const pjsip_server_addresses *addresses)
{
    answer ordered;

    if (addresses && keys_are_short()) {
        pthread_mutex_lock(&self.lock);
        if (is_any_connected(addresses)) {
            put_connected_first(addresses, &ordered);
            addresses = &ordered.addresses;
        } else {
            addresses = NULL;
            status = PJ_ETOOMANYCONN;
        }
        pthread_mutex_unlock(&self.lock);
    }
    answering++;
    callback(status, token, addresses);
    answering--;
}

/* Whether a connect would be in vain, or one too many. */
static int should_not_connect(const pf_address *server)
{
    double now = host_now(), *oldest;
    int refused = plans_failed_within(server, REFUSAL), should_not = 0;

    pthread_mutex_lock(&self.lock);
    if (!has_connection(server, 0)) {
        oldest = &self.connects[self.connects_begun % MOST_CONNECTS];
        should_not = refused || (self.connects_begun >= MOST_CONNECTS && now < *oldest + KEY_SECONDS);
        if (!should_not) {
            *oldest = now;
            self.connects_begun++;
        }
    }
    pthread_mutex_unlock(&self.lock);
    return should_not;
}

pj_status_t connections_connect(pjsip_endpoint *endpt, const pf_address *server, const char *host_name,
                                pjsip_transport **connection)
{
    return should_not_connect(server) ? PJ_ETOOMANYCONN : connections_acquire(endpt, server, host_name, connection);
}

pj_status_t connections_acquire(pjsip_endpoint *endpt, const pf_address *server, const char *host_name,
                                pjsip_transport **transport)
{
    pj_status_t status;
    int none = 0;

    if (server->transport != PF_UDP && keys_are_short()) {
        pthread_mutex_lock(&self.lock);
        none = !has_connection(server, 0);
        pthread_mutex_unlock(&self.lock);
    }
    if (none)
        return PJ_ETOOMANYCONN;
    answering++;
    status = byhand_connect(endpt, server, host_name, transport);
    answering--;
    if (status == PJ_SUCCESS && server->transport != PF_UDP)
        connections_carry(*transport);
    return status;
}

void connections_note_late(pjsip_transport *transport, const pf_address *server)
{
    struct connection *connection;
    int taken;

    pthread_mutex_lock(&self.lock);
    connection = hold(transport, 1);
    taken = connection && !connection->late;
    if (taken)
        connection->late = transport;
    pthread_mutex_unlock(&self.lock);
    plans_suspect(server);
    if (!taken)
        host.pjsip_transport_dec_ref(transport);
}

int connections_knows(const pjsip_transport *transport)
{
    struct connection *connection;
    int known;

    pthread_mutex_lock(&self.lock);
    connection = hold(transport, 0);
    known = connection && !connection->ended;
    pthread_mutex_unlock(&self.lock);
    return known;
}

int connections_has_ended_under(const pjsip_tx_data *request)
{
    const pjsip_method *method = &tdata_msg(request)->line.req.method;
    const pjsip_server_addresses *addresses = tdata_addresses(request);
    const unsigned next = tdata_current(request) + 1;
    const pjsip_to_hdr *to = host.pjsip_msg_find_hdr(tdata_msg(request), PJSIP_H_TO, NULL);
    struct connection *connection;
    int ended;

    /* What belongs to another request, or to a dialog, goes where that went. */
    if (method->id == PJSIP_ACK_METHOD || method->id == PJSIP_CANCEL_METHOD || !to || to->tag.slen)
        return 0;
    /* Nor may the next one fail at once, too: see connections_bear(). */
    if (next >= answer_count(addresses) || is_refusing(addresses, next))
        return 0;
    pthread_mutex_lock(&self.lock);
    connection = hold(tdata_transport(request), 0);
    ended = connection && connection->ended;
    pthread_mutex_unlock(&self.lock);
    return ended;
}

int connections_is_up(const pjsip_transport *transport)
{
    struct connection *connection;
    int connected;

    pthread_mutex_lock(&self.lock);
    connection = hold(transport, 0);
    connected = connection && connection->connected && !connection->ended;
    pthread_mutex_unlock(&self.lock);
    return connected;
}

int connections_has(const pf_address *server)
{
    int has;

    pthread_mutex_lock(&self.lock);
    has = has_connection(server, 1);
    pthread_mutex_unlock(&self.lock);
    return has;
}

/* --- time -------------------------------------------------------------------------------------------------------- */

/* A connect that was late: it is there now, has failed, or has taken too long. */
struct late {
    pjsip_transport *transport;
    pf_address server;
    int expired;
};

/* Under self.lock. Those of which nothing more is to be awaited; their references are the caller's. all: whatever their state. */
static int take_late(double now, struct late *late, int room, int all)
{
    struct link *link;
    int count = 0;
    size_t i;

    for (i = 0; i < self.table.size; i++)
        for (link = self.table.buckets[i]; link && count < room; link = link->next) {
            struct connection *connection = entry_of(link, struct connection, link);
            int expired = !connection->connected && !connection->ended && now - connection->since > CONNECT_SECONDS;

            if (!connection->late || !(connection->connected || connection->ended || expired || all))
                continue;
            late[count].transport = connection->late;
            late[count].server = connection->server;
            late[count++].expired = expired && !all;
            connection->late = NULL;
            connection->ended |= expired;
        }
    return count;
}

static void note_no_connection(const pf_address *server)
{
    pf_outcome outcome;

    memset(&outcome, 0, sizeof outcome);
    outcome.seen = PF_REFUSED;
    outcome.retry_after = -1;
    outcome.status = PJ_ETIMEDOUT;
    plans_note_failure(server, &outcome);
}

void connections_tick(double now)
{
    enum { BATCH = 32 };
    struct late late[BATCH];
    int count, i;

    pthread_mutex_lock(&self.lock);
    count = take_late(now, late, BATCH, 0);
    pthread_mutex_unlock(&self.lock);
    for (i = 0; i < count; i++) {
        if (late[i].expired) {
            note_no_connection(&late[i].server);
            host.pjsip_transport_shutdown2(late[i].transport, PJ_FALSE);     /* nobody else shall wait for it */
        }
        host.pjsip_transport_dec_ref(late[i].transport);
    }
}

int connections_are_late(void)
{
    struct link *link;
    int late = 0;
    size_t i;

    pthread_mutex_lock(&self.lock);
    for (i = 0; i < self.table.size && !late; i++)
        for (link = self.table.buckets[i]; link && !late; link = link->next)
            late = entry_of(link, struct connection, link)->late != NULL;
    pthread_mutex_unlock(&self.lock);
    return late;
}

static void drop(struct link *link) { free(entry_of(link, struct connection, link)); }

void connections_clear(void)
{
    struct late late[16];
    int count, i;

    do {
        pthread_mutex_lock(&self.lock);
        count = take_late(0, late, PJ_ARRAY_SIZE(late), 1);
        pthread_mutex_unlock(&self.lock);
        for (i = 0; i < count; i++)
            host.pjsip_transport_dec_ref(late[i].transport);
    } while (count == PJ_ARRAY_SIZE(late));
    pthread_mutex_lock(&self.lock);
    table_clear(&self.table, &drop);
    pthread_mutex_unlock(&self.lock);
}
