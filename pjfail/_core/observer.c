#include "observer.h"

#include "affinity.h"
#include "dialogs.h"
#include "plans.h"
#include "queue.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* A server that left two retransmissions (T1, 2*T1: 1.5 s) unanswered is silent; so is one on a connection after this. */
enum { SILENT_SENDS = 3 };
#define SILENT_SECONDS 5.0

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
    char method[16];
};

/* A connection that carries requests of ours. One from before we attached is taken for connected once it brings an answer. */
struct connection {
    struct link link;           /* by the transport's address */
    const pjsip_transport *transport;
    int connected;
    int ended;                  /* and noted */
};

/* A connect that fails at once ends, within the answer's callback, without any event but the transport's destruction. */
static __thread int answering;

/* Guarded by lock. */
static struct {
    pthread_mutex_t lock;
    struct table requests, connections;
    struct request *oldest, *newest;
} self = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* --- requests, under self.lock ----------------------------------------------------------------------------------- */

static uint64_t request_hash(const pj_str_t *branch, const pj_str_t *method)
{
    return hash_bytes(hash_bytes(HASH_SEED, branch->ptr, (size_t)branch->slen), method->ptr, (size_t)method->slen);
}

static struct request *find_request(uint64_t hash)
{
    struct link *link = table_first(&self.requests, hash);

    return link ? entry_of(link, struct request, link) : NULL;
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
        connection->link.hash = hash;
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

static void tell_registration(int account, const pf_address *server, int removes, pjsip_msg *msg)
{
    pf_registration *registration = calloc(1, sizeof *registration);

    if (registration) {
        registration->account = account;
        registration->server = *server;
        registration->code = msg->line.status.code;
        registration->retry_after = retry_after(msg);
        registration->removed = removes;
        queue_put_note(NOTE_REGISTRATION, registration);
    }
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
    int account;

    if (method->id == PJSIP_ACK_METHOD || !address_of(&server, tdata_destination(tdata), transport_type(transport)) ||
        !plans_know(&server))
        return PJ_SUCCESS;
    via = host.pjsip_msg_find_hdr(msg, PJSIP_H_VIA, NULL);
    if (!via || !via->branch_param.slen)
        return PJ_SUCCESS;
    hash = request_hash(&via->branch_param, &method->name);
    account = affinity_registers(msg);
    pthread_mutex_lock(&self.lock);
    request = find_request(hash);
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
            request->answered = request->noted = 0;
            request->account = account;
            request->removes = (unsigned char)(account >= 0 && removes_binding(msg));
            copy_method(request->method, &method->name);
            make_newest(request);
            if (server.transport != PF_UDP)
                hold_connection(transport, 1);
        }
    }
    pthread_mutex_unlock(&self.lock);
    if (silent_to[0])
        note_silence(&server, silent_to, sent_at);
    return PJ_SUCCESS;
}

pj_bool_t observer_on_rx_response(pjsip_rx_data *rdata)
{
    pjsip_msg *msg = rdata->msg_info.msg;
    pjsip_via_hdr *via = rdata->msg_info.via;
    pjsip_cseq_hdr *cseq = rdata->msg_info.cseq;
    int code = msg->line.status.code, found = 0, after_provisional = 0, account = -1, removes = 0;
    struct request *request;
    pf_address server;
    double rtt = -1;
    char name[16];

    if (!via || !cseq || !via->branch_param.slen)
        return PJ_FALSE;
    pthread_mutex_lock(&self.lock);
    request = find_request(request_hash(&via->branch_param, &cseq->method.name));
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
        /* Karn: after a retransmission nobody knows which copy was answered. An INVITE's final waits for a human. */
        if (request->sends == 1 && !request->answered)
            rtt = host_now() - request->sent_at;
        if (code < 200)
            request->answered = 1;
        else
            forget_request(request);
    }
    pthread_mutex_unlock(&self.lock);
    if (!found)
        return PJ_FALSE;
    if (account >= 0 && code >= 200)
        tell_registration(account, &server, removes, msg);
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
    if (rdata->msg_info.cid)
        dialogs_note(&rdata->msg_info.cid->id, cseq->method.id, code, &server);
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

static int certificate_problem(const pjsip_transport_state_info *info, int is_tls)
{
    const pjsip_tls_state_info *tls = is_tls && info ? info->ext_info : NULL;

    return (info && info->status == PJSIP_TLS_ECERTVERIF) ||
           (tls && tls->ssl_sock_info && tls->ssl_sock_info->verify_status != PJ_SSL_CERT_ESUCCESS);
}

void observer_on_transport_state(pjsip_transport *transport, pjsip_transport_state state,
                                 const pjsip_transport_state_info *info)
{
    int type = transport_type(transport), plain = type & ~PJSIP_TRANSPORT_IPV6;
    struct connection *connection;
    pf_outcome outcome;
    pf_address server;
    int note = 0;

    if ((plain != PJSIP_TRANSPORT_TCP && plain != PJSIP_TRANSPORT_TLS) || !transport_is_outgoing(transport) ||
        !address_of(&server, transport_peer(transport), type))
        return;
    memset(&outcome, 0, sizeof outcome);
    outcome.retry_after = -1;
    outcome.status = info ? info->status : PJ_SUCCESS;
    pthread_mutex_lock(&self.lock);
    connection = hold_connection(transport, state == PJSIP_TP_STATE_CONNECTED);
    if (!connection) {
        outcome.seen = PF_REFUSED;
        note = state == PJSIP_TP_STATE_DESTROY && answering;
    } else if (state == PJSIP_TP_STATE_CONNECTED) {
        connection->connected = 1;
    } else if (state == PJSIP_TP_STATE_DISCONNECTED || state == PJSIP_TP_STATE_DESTROY) {
        if (!connection->ended) {
            connection->ended = 1;
            if (connection->connected) {
                outcome.seen = PF_DISCONNECTED;
                note = lose_requests(transport, outcome.method) > 0;
            } else {
                outcome.seen = certificate_problem(info, plain == PJSIP_TRANSPORT_TLS) ? PF_CERTIFICATE : PF_REFUSED;
                note = 1;
            }
        }
        if (state == PJSIP_TP_STATE_DESTROY) {
            table_remove(&self.connections, &connection->link);
            free(connection);
        }
    }
    pthread_mutex_unlock(&self.lock);
    if (note)
        plans_note_failure(&server, &outcome);
}

void observer_answer(pjsip_resolver_callback *callback, pj_status_t status, void *token,
                     const pjsip_server_addresses *addresses)
{
    answering++;
    callback(status, token, addresses);
    answering--;
}

/* --- time -------------------------------------------------------------------------------------------------------- */

void observer_tick(double now)
{
    enum { BATCH = 32 };
    struct { pf_address server; char method[16]; double sent_at; } silent[BATCH];
    struct request *request, *newer;
    int count = 0, i;

    pthread_mutex_lock(&self.lock);
    for (request = self.oldest; request && count < BATCH; request = newer) {
        double age = now - request->sent_at;

        newer = request->newer;
        if (age < SILENT_SECONDS)
            break;
        if (!request->answered && !request->noted && request->server.transport != PF_UDP) {
            request->noted = 1;
            silent[count].server = request->server;
            silent[count].sent_at = request->sent_at;
            memcpy(silent[count++].method, request->method, sizeof request->method);
        }
        if (age > (request->answered ? RINGING : PATIENCE))
            forget_request(request);
    }
    pthread_mutex_unlock(&self.lock);
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

static void drop_request(struct link *link) { free(entry_of(link, struct request, link)); }

static void drop_connection(struct link *link) { free(entry_of(link, struct connection, link)); }

void observer_clear(void)
{
    pthread_mutex_lock(&self.lock);
    table_clear(&self.requests, &drop_request);
    table_clear(&self.connections, &drop_connection);
    self.oldest = self.newest = NULL;
    pthread_mutex_unlock(&self.lock);
}
