#include "observer.h"

#include "affinity.h"
#include "byhand.h"
#include "dialogs.h"
#include "plans.h"
#include "queue.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* A server that left two retransmissions (T1, 2*T1: 1.5 s) unanswered is silent; so is one on a connection after this. */
enum { SILENT_SENDS = 3 };
#define SILENT_SECONDS 5.0

/* A server whose request was answered by another is silent when it has left two sends over UDP unanswered for so long. */
#define LEFT_SECONDS 1.5

/* A connect that takes longer has failed, as far as anybody waits for it. */
#define CONNECT_SECONDS 5.0

/* A server that has just refused a connection is taken at its word: nobody asks again by hand for so long. */
#define REFUSAL 0.1

/*
 * A connection takes a key of pjsip's ioqueue, and keeps it for half a second once it has ended. With none left pjsip aborts the
 * program. So many are opened by hand at the most within that time; and once so many have ended, none is made at all.
 */
#define KEY_SECONDS 0.6
enum { MOST_CONNECTS = 16, MOST_ENDS = PJSIP_MAX_TRANSPORTS / 2 };

/* How long a request is kept waiting for an answer (timer F), and one with a provisional for its final (an INVITE's). */
#define PATIENCE 33.0
#define RINGING 300.0

/* Requests beyond this many are sent, but not watched. */
enum { MOST_OUTSTANDING = 65536 };

/* A request on its way. */
struct request {
    struct link link;           /* by hash of branch and method */
    struct request *older, *newer;
    pf_address server;
    const pjsip_transport *transport;   /* compared, never followed */
    double sent_at;             /* first */
    unsigned short sends;
    unsigned char answered;     /* provisionally */
    unsigned char noted;        /* as silent or lost */
    unsigned char removes;      /* a binding (RFC 3261 section 10.2.2) */
    int account;                /* the followed one whose REGISTER it is, else -1 */
    unsigned char by_hand;      /* a copy of one that pjsip sent elsewhere */
    unsigned char left;         /* another server has answered it */
    unsigned char settled;      /* with a 2xx, so that this answer decides nothing any more */
    char method[16];
};

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
    struct table requests, connections;
    struct request *oldest, *newest;
    double connects[MOST_CONNECTS];     /* when the last were begun by hand, a ring */
    unsigned connects_begun;
    double ends[MOST_ENDS];             /* when connections have ended, a ring */
    unsigned ended;
} self = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* --- requests, under self.lock ----------------------------------------------------------------------------------- */

static uint64_t request_hash(const pj_str_t *branch, const pj_str_t *method)
{
    return hash_bytes(hash_bytes(HASH_SEED, branch->ptr, (size_t)branch->slen), method->ptr, (size_t)method->slen);
}

/* That server's; without one, the one that pjsip itself has sent. */
static struct request *find_request(uint64_t hash, const pf_address *server)
{
    struct link *link;

    for (link = table_first(&self.requests, hash); link; link = table_next(link)) {
        struct request *request = entry_of(link, struct request, link);
        if (server ? !memcmp(&request->server, server, sizeof *server) : !request->by_hand)
            return request;
    }
    return NULL;
}

static void unlink_age(struct request *request)
{
    *(request->older ? &request->older->newer : &self.oldest) = request->newer;
    *(request->newer ? &request->newer->older : &self.newest) = request->older;
}

static void make_newest(struct request *request)
{
    request->newer = NULL;
    request->older = self.newest;
    *(self.newest ? &self.newest->newer : &self.oldest) = request;
    self.newest = request;
}

static void forget_request(struct request *request)
{
    table_remove(&self.requests, &request->link);
    unlink_age(request);
    free(request);
}

static void copy_method(char *method, const pj_str_t *name)
{
    size_t length = (size_t)name->slen < 15 ? (size_t)name->slen : 15;

    memcpy(method, name->ptr, length);
    method[length] = '\0';
}

/* Under self.lock. NULL when there is no memory. */
static struct connection *hold_connection(const pjsip_transport *transport, int make)
{
    uint64_t hash = hash_bytes(HASH_SEED, &transport, sizeof transport);
    struct connection *connection;
    struct link *link;

    for (link = table_first(&self.connections, hash); link; link = table_next(link)) {
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
        if (!table_put(&self.connections, &connection->link)) {
            free(connection);
            connection = NULL;
        }
    }
    return connection;
}

/* --- the wire ---------------------------------------------------------------------------------------------------- */

static void note_silence(const pf_address *server, const char *method, double sent_at)
{
    pf_outcome outcome;

    memset(&outcome, 0, sizeof outcome);
    outcome.seen = PF_SILENT;
    outcome.retry_after = -1;
    outcome.began = sent_at;
    strcpy(outcome.method, method);
    plans_note_failure(server, &outcome);
}

static int retry_after(pjsip_msg *msg)
{
    pjsip_retry_after_hdr *header = host.pjsip_msg_find_hdr(msg, PJSIP_H_RETRY_AFTER, NULL);

    return header ? header->ivalue : -1;
}

/* Those that tell of the server, not of the request (RFC 3261 section 21.5). */
static int is_server_error(int code)
{
    return code == PJSIP_SC_INTERNAL_SERVER_ERROR || code == PJSIP_SC_BAD_GATEWAY || code == PJSIP_SC_SERVER_TIMEOUT;
}

static int removes_binding(pjsip_msg *msg)
{
    pjsip_expires_hdr *expires = host.pjsip_msg_find_hdr(msg, PJSIP_H_EXPIRES, NULL);

    return expires && !expires->ivalue;
}

pj_status_t observer_on_tx_request(pjsip_tx_data *tdata)
{
    pjsip_msg *msg = tdata_msg(tdata);
    const pjsip_method *method = &msg->line.req.method;
    const pjsip_transport *transport = tdata_transport(tdata);
    pjsip_via_hdr *via;
    struct request *request;
    pf_address server;
    uint64_t hash;
    char silent_to[16] = "";
    double sent_at = 0;
    int account, sent = 0, removes = 0;

    if (method->id == PJSIP_ACK_METHOD || !address_of(&server, tdata_destination(tdata), transport_type(transport)) ||
        !plans_know(&server))
        return PJ_SUCCESS;
    via = host.pjsip_msg_find_hdr(msg, PJSIP_H_VIA, NULL);
    if (!via || !via->branch_param.slen)
        return PJ_SUCCESS;
    hash = request_hash(&via->branch_param, &method->name);
    account = affinity_registers(tdata);
    pthread_mutex_lock(&self.lock);
    request = find_request(hash, &server);
    if (!request)
        request = find_request(hash, NULL);
    if (request && !memcmp(&request->server, &server, sizeof server) && request->transport == transport) {
        if (++request->sends == SILENT_SENDS && !request->answered && !request->noted) {
            request->noted = 1;
            strcpy(silent_to, request->method);
            sent_at = request->sent_at;
        }
    } else if (request || self.requests.count < MOST_OUTSTANDING) {
        if (request) {          /* pjsip went on to the next server after a connection failed */
            unlink_age(request);
        } else {
            request = calloc(1, sizeof *request);
            if (request) {
                request->link.hash = hash;
                if (!table_put(&self.requests, &request->link)) {
                    free(request);
                    request = NULL;
                }
            }
        }
        if (request) {
            request->server = server;
            request->transport = transport;
            request->sent_at = host_now();
            request->sends = 1;
            request->answered = request->noted = request->by_hand = request->left = request->settled = 0;
            request->account = account;
            request->removes = (unsigned char)(method->id == PJSIP_REGISTER_METHOD && removes_binding(msg));
            sent = account >= 0;
            removes = request->removes;
            copy_method(request->method, &method->name);
            make_newest(request);
            if (server.transport != PF_UDP)
                hold_connection(transport, 1);
        }
    }
    pthread_mutex_unlock(&self.lock);
    if (silent_to[0])
        note_silence(&server, silent_to, sent_at);
    if (sent)
        affinity_tell(account, msg, &server, 0, -1, removes);
    return PJ_SUCCESS;
}

void observer_note_sent(uint64_t hash, const char *method, const pf_address *server, const pjsip_transport *transport)
{
    struct request *request, *first;
    double sent_at = 0;
    int silent = 0;

    pthread_mutex_lock(&self.lock);
    first = find_request(hash, NULL);
    request = find_request(hash, server);
    if (request) {
        sent_at = request->sent_at;
        silent = ++request->sends == SILENT_SENDS && !request->answered && !request->noted;
        request->noted |= (unsigned char)silent;
    } else if (self.requests.count < MOST_OUTSTANDING && (request = calloc(1, sizeof *request)) != NULL) {
        request->link.hash = hash;
        if (table_put(&self.requests, &request->link)) {
            request->server = *server;
            request->transport = transport;
            request->sent_at = host_now();
            request->sends = 1;
            request->by_hand = 1;
            request->account = first ? first->account : -1;
            request->removes = (unsigned char)(first && first->removes);
            strcpy(request->method, method);
            make_newest(request);
            if (server->transport != PF_UDP)
                hold_connection(transport, 1);
        } else {
            free(request);
        }
    }
    pthread_mutex_unlock(&self.lock);
    if (silent)
        note_silence(server, method, sent_at);
}

/* Under self.lock. Another server has answered the request. */
static void leave_others(uint64_t hash, int code)
{
    struct link *link;

    for (link = table_first(&self.requests, hash); link; link = table_next(link)) {
        struct request *request = entry_of(link, struct request, link);

        request->left = 1;
        request->settled |= (unsigned char)(code < 300);
    }
}

pj_bool_t observer_on_rx_response(pjsip_rx_data *rdata)
{
    pjsip_msg *msg = RDATA_INFO(rdata)->msg;
    pjsip_via_hdr *via = RDATA_INFO(rdata)->via;
    pjsip_cseq_hdr *cseq = RDATA_INFO(rdata)->cseq;
    int code = msg->line.status.code, found = 0, after_provisional = 0, account = -1, removes = 0;
    int settled = 0;
    struct request *request = NULL;
    pf_address server;
    double rtt = -1;
    char name[16];
    uint64_t hash;

    if (!via || !cseq || !via->branch_param.slen)
        return PJ_FALSE;
    hash = request_hash(&via->branch_param, &cseq->method.name);
    pthread_mutex_lock(&self.lock);
    if (address_of(&server, RDATA_SOURCE(rdata), transport_type(rdata->tp_info.transport)))
        request = find_request(hash, &server);
    if (!request)
        request = find_request(hash, NULL);
    if (request) {
        struct connection *connection;

        found = 1;
        server = request->server;
        connection = server.transport == PF_UDP ? NULL : hold_connection(rdata->tp_info.transport, 0);
        if (connection)
            connection->connected = 1;
        after_provisional = request->answered;
        account = request->account;
        removes = request->removes;
        settled = request->settled;
        /* Karn: after a retransmission nobody knows which copy was answered. An INVITE's final waits for a human. */
        if (request->sends == 1 && !request->answered)
            rtt = host_now() - request->sent_at;
        if (code < 200)
            request->answered = 1;
        else
            forget_request(request);
        if (code >= 200)
            leave_others(hash, code);
    }
    pthread_mutex_unlock(&self.lock);
    if (!found)
        return PJ_FALSE;
    if (code >= 200 && !settled && cseq->method.id == PJSIP_REGISTER_METHOD) {
        account = affinity_registered(msg, account);    /* it may be followed only since, or be no more */
        if (account >= 0)
            affinity_tell(account, msg, &server, code, retry_after(msg), removes);
    }
    copy_method(name, &cseq->method.name);
    if (code == PJSIP_SC_SERVICE_UNAVAILABLE) {
        pf_outcome outcome;

        memset(&outcome, 0, sizeof outcome);
        outcome.seen = PF_UNAVAILABLE;
        outcome.code = code;
        outcome.retry_after = retry_after(msg);
        outcome.after_provisional = after_provisional;
        memcpy(outcome.method, name, sizeof name);
        plans_note_failure(&server, &outcome);
        return PJ_FALSE;
    }
    plans_note_answer(&server, name, code, !after_provisional && is_server_error(code), rtt);
    if (RDATA_INFO(rdata)->cid && !settled)
        dialogs_note(&RDATA_INFO(rdata)->cid->id, cseq->method.id, code, &server);
    return PJ_FALSE;
}

/* --- connections ------------------------------------------------------------------------------------------------- */

/* Under self.lock. How many requests on that connection will never be answered; they are noted once. */
static int lose_requests(const pjsip_transport *transport, char *method)
{
    struct request *request;
    int lost = 0;

    for (request = self.oldest; request; request = request->newer)
        if (request->transport == transport && !request->answered && !request->noted) {
            request->noted = 1;
            strcpy(method, request->method);
            lost++;
        }
    return lost;
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

void observer_on_transport_state(pjsip_transport *transport, pjsip_transport_state state,
                                 const pjsip_transport_state_info *info)
{
    int type = transport_type(transport), plain = type & ~PJSIP_TRANSPORT_IPV6;
    struct connection *connection;
    pf_outcome outcome;
    pf_address server;
    int note = 0, cleared = 0;

    if ((plain != PJSIP_TRANSPORT_TCP && plain != PJSIP_TRANSPORT_TLS) || !transport_is_outgoing(transport) ||
        !address_of(&server, transport_peer(transport), type))
        return;
    memset(&outcome, 0, sizeof outcome);
    outcome.retry_after = -1;
    outcome.status = info ? info->status : PJ_SUCCESS;
    pthread_mutex_lock(&self.lock);
    if (state == PJSIP_TP_STATE_DESTROY)
        self.ends[self.ended++ % MOST_ENDS] = host_now();
    connection = hold_connection(transport, state == PJSIP_TP_STATE_CONNECTED);
    if (!connection) {
        outcome.seen = PF_REFUSED;
        note = state == PJSIP_TP_STATE_DESTROY && answering;
    } else if (state == PJSIP_TP_STATE_CONNECTED) {
        connection->connected = 1;
        cleared = connection->late && !connection->ended;
    } else if (state == PJSIP_TP_STATE_DISCONNECTED || state == PJSIP_TP_STATE_DESTROY) {
        if (!connection->ended) {
            connection->ended = 1;
            if (connection->connected) {
                outcome.seen = PF_DISCONNECTED;
                note = lose_requests(transport, outcome.method) > 0;
            } else {
                outcome.certificate = certificate_problem(info);
                outcome.seen = outcome.certificate ? PF_CERTIFICATE : PF_REFUSED;
                note = 1;
            }
        }
        if (state == PJSIP_TP_STATE_DESTROY) {
            table_remove(&self.connections, &connection->link);
            free(connection);
        }
    }
    pthread_mutex_unlock(&self.lock);
    if (cleared)
        plans_clear_of_suspicion(&server);
    if (note)
        plans_note_failure(&server, &outcome);
}

/* Under self.lock. Whether there is a connection to the server; made: that is known to be up. */
static int has_connection(const pf_address *server, int made)
{
    struct link *link;
    size_t i;

    for (i = 0; i < self.connections.size; i++)
        for (link = self.connections.buckets[i]; link; link = link->next) {
            const struct connection *connection = entry_of(link, struct connection, link);

            if ((connection->connected || !made) && !connection->ended &&
                !memcmp(&connection->server, server, sizeof *server))
                return 1;
        }
    return 0;
}

/* Under self.lock. Whether pjsip might run out of keys. */
static int keys_are_short(void)
{
    return self.ended >= MOST_ENDS && host_now() < self.ends[self.ended % MOST_ENDS] + KEY_SECONDS;
}

/* Under self.lock. Those for which pjsip needs no new connection; how many. */
static unsigned list_connected(const pjsip_server_addresses *addresses, answer *connected)
{
    unsigned count = 0, i;

    for (i = 0; i < answer_count(addresses); i++) {
        pf_address server;

        if (address_of(&server, answer_address(addresses, i), answer_type(addresses, i)) &&
            (server.transport == PF_UDP || has_connection(&server, 0)))
            answer_copy(connected, count++, addresses, i);
    }
    answer_set_count(connected, count);
    return count;
}

void observer_answer(pjsip_resolver_callback *callback, pj_status_t status, void *token,
                     const pjsip_server_addresses *addresses)
{
    answer connected;

    if (addresses) {
        int none = 0;

        pthread_mutex_lock(&self.lock);
        if (keys_are_short()) {
            none = !list_connected(addresses, &connected);
            addresses = none ? NULL : &connected.addresses;
        }
        pthread_mutex_unlock(&self.lock);
        if (none)
            status = PJ_ETOOMANYCONN;
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

pj_status_t observer_connect(pjsip_endpoint *endpt, const pf_address *server, const char *host_name,
                             pjsip_transport **connection)
{
    return should_not_connect(server) ? PJ_ETOOMANYCONN : observer_acquire(endpt, server, host_name, connection);
}

pj_status_t observer_acquire(pjsip_endpoint *endpt, const pf_address *server, const char *host_name,
                             pjsip_transport **transport)
{
    pj_status_t status;
    int short_of_keys;

    pthread_mutex_lock(&self.lock);
    short_of_keys = server->transport != PF_UDP && keys_are_short() && !has_connection(server, 0);
    pthread_mutex_unlock(&self.lock);
    if (short_of_keys)
        return PJ_ETOOMANYCONN;
    answering++;
    status = byhand_connect(endpt, server, host_name, transport);
    answering--;
    if (status == PJ_SUCCESS && server->transport != PF_UDP) {
        pthread_mutex_lock(&self.lock);
        hold_connection(*transport, 1);
        pthread_mutex_unlock(&self.lock);
    }
    return status;
}

void observer_note_late(pjsip_transport *transport, const pf_address *server)
{
    struct connection *connection;
    int taken;

    pthread_mutex_lock(&self.lock);
    connection = hold_connection(transport, 1);
    taken = connection && !connection->late;
    if (taken)
        connection->late = transport;
    pthread_mutex_unlock(&self.lock);
    plans_suspect(server);
    if (!taken)
        host.pjsip_transport_dec_ref(transport);
}

int observer_knows(const pjsip_transport *transport)
{
    struct connection *connection;
    int known;

    pthread_mutex_lock(&self.lock);
    connection = hold_connection(transport, 0);
    known = connection && !connection->ended;
    pthread_mutex_unlock(&self.lock);
    return known;
}

int observer_is_connected(const pjsip_transport *transport)
{
    struct connection *connection;
    int connected;

    pthread_mutex_lock(&self.lock);
    connection = hold_connection(transport, 0);
    connected = connection && connection->connected && !connection->ended;
    pthread_mutex_unlock(&self.lock);
    return connected;
}

int observer_has_connection(const pf_address *server)
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

    for (i = 0; i < self.connections.size; i++)
        for (link = self.connections.buckets[i]; link && count < room; link = link->next) {
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

void observer_tick(double now)
{
    enum { BATCH = 32 };
    struct { pf_address server; char method[16]; double sent_at; } silent[BATCH];
    struct request *request, *newer;
    struct late late[BATCH];
    int count = 0, lates, i;

    pthread_mutex_lock(&self.lock);
    for (request = self.oldest; request && count < BATCH; request = newer) {
        double age = now - request->sent_at;

        newer = request->newer;
        if (age < LEFT_SECONDS)
            break;
        if (!request->answered && !request->noted &&
            (request->server.transport == PF_UDP ? request->left && request->sends > 1 : age >= SILENT_SECONDS)) {
            request->noted = 1;
            silent[count].server = request->server;
            silent[count].sent_at = request->sent_at;
            memcpy(silent[count++].method, request->method, sizeof request->method);
        }
        if (age > (request->answered ? RINGING : PATIENCE))
            forget_request(request);
    }
    lates = take_late(now, late, BATCH, 0);
    pthread_mutex_unlock(&self.lock);
    for (i = 0; i < lates; i++) {
        if (late[i].expired) {
            note_no_connection(&late[i].server);
            host.pjsip_transport_shutdown2(late[i].transport, PJ_FALSE);     /* nobody else shall wait for it */
        }
        host.pjsip_transport_dec_ref(late[i].transport);
    }
    for (i = 0; i < count; i++)
        note_silence(&silent[i].server, silent[i].method, silent[i].sent_at);
}

unsigned long long observer_outstanding(void)
{
    unsigned long long count;

    pthread_mutex_lock(&self.lock);
    count = self.requests.count;
    pthread_mutex_unlock(&self.lock);
    return count;
}

int observer_is_watching(void)
{
    struct link *link;
    int watching;
    size_t i;

    pthread_mutex_lock(&self.lock);
    watching = self.requests.count > 0;
    for (i = 0; i < self.connections.size && !watching; i++)
        for (link = self.connections.buckets[i]; link && !watching; link = link->next) {
            const struct connection *connection = entry_of(link, struct connection, link);
            watching = connection->late != NULL;
        }
    pthread_mutex_unlock(&self.lock);
    return watching;
}

static void drop_request(struct link *link) { free(entry_of(link, struct request, link)); }

static void drop_connection(struct link *link) { free(entry_of(link, struct connection, link)); }

void observer_clear(void)
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
    table_clear(&self.requests, &drop_request);
    table_clear(&self.connections, &drop_connection);
    self.oldest = self.newest = NULL;
    pthread_mutex_unlock(&self.lock);
}
