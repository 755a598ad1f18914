#include "observer.h"

#include "affinity.h"
#include "connections.h"
#include "dialogs.h"
#include "plans.h"
#include "queue.h"
#include "text.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* A server that left two retransmissions (T1, 2*T1: 1.5 s) unanswered is silent; so is one on a connection after this. */
enum { SILENT_SENDS = 3 };
#define SILENT_SECONDS 5.0

/* A server whose request was answered by another is silent when it has left two sends over UDP unanswered for so long. */
#define LEFT_SECONDS 1.5

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

/* Guarded by lock. */
static struct {
    pthread_mutex_t lock;
    struct table requests;
    struct request *oldest, *newest;
} self = { .lock = PTHREAD_MUTEX_INITIALIZER };

uint64_t request_hash(const pj_str_t *branch, const pj_str_t *method)
{
    return hash_bytes(hash_bytes(HASH_SEED, branch->ptr, (size_t)branch->slen), method->ptr, (size_t)method->slen);
}

/* --- requests, under self.lock ----------------------------------------------------------------------------------- */

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
    int account, sent = 0, removes = 0, carries = 0;

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
            copy_text(request->method, sizeof request->method, &method->name);
            make_newest(request);
            carries = server.transport != PF_UDP;
        }
    }
    pthread_mutex_unlock(&self.lock);
    if (carries)
        connections_carry(transport);
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
    int silent = 0, carries = 0;

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
            carries = server->transport != PF_UDP;
        } else {
            free(request);
        }
    }
    pthread_mutex_unlock(&self.lock);
    if (carries)
        connections_carry(transport);
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
        found = 1;
        server = request->server;
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
    if (server.transport != PF_UDP)
        connections_note_answer(rdata->tp_info.transport);
    if (code >= 200 && !settled && cseq->method.id == PJSIP_REGISTER_METHOD) {
        account = affinity_registered(msg, account);    /* it may be followed only since, or be no more */
        if (account >= 0)
            affinity_tell(account, msg, &server, code, retry_after(msg), removes);
    }
    copy_text(name, sizeof name, &cseq->method.name);
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
    if (!settled)
        dialogs_note(rdata, &server);
    return PJ_FALSE;
}

/* --- the ends of connections ------------------------------------------------------------------------------------- */

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

void observer_on_transport_state(pjsip_transport *transport, pjsip_transport_state state,
                                 const pjsip_transport_state_info *info)
{
    pf_outcome outcome;

    if (!connections_on_state(transport, state, info, &outcome))
        return;
    if (outcome.seen != PF_DISCONNECTED || lose_requests(transport, outcome.method))
        plans_note_failure(&outcome.server, &outcome);
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

void observer_clear(void)
{
    pthread_mutex_lock(&self.lock);
    table_clear(&self.requests, &drop_request);
    self.oldest = self.newest = NULL;
    pthread_mutex_unlock(&self.lock);
}
