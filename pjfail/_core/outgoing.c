/*
 * outgoing.c: sends one request outside any dialog, in its own transaction, over a transport to exactly one server.
 *
 * A Python thread makes the request; attach.c has the endpoint's end wait for such threads. pjsip's polling thread
 * sends it: a request whose connection ends while another thread is still sending it would never end. Its end comes on
 * a SIP thread, and is reported to the worker.
 */
#include "outgoing.h"

#include "address.h"
#include "connections.h"
#include "event_queue.h"
#include "gate.h"
#include "hash_table.h"
#include "layout.h"
#include "lock.h"
#include "override.h"
#include "pjfail.h"
#include "text.h"
#include "transaction.h"

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct order {
    unsigned id;
    const pf_address *server;
    pj_str_t method, uri, from, to;
    const char *const *names, *const *values;
    int headers;
    const char *content_type;
    pj_str_t body;
};

enum outgoing_state { WAITING, SENDING, SENT };

/*
 * A request whose end has not been reported yet. The table holds a reference (refs), and so does the thread that works
 * with it.
 */
struct outgoing {
    struct hash_link link; /* by id */
    struct outgoing *next; /* the next one for the polling thread to process */
    unsigned refs;
    enum outgoing_state state;
    unsigned char queued, cancelled;
    /* The fields below never change. */
    unsigned id;
    pjsip_tx_data *tdata; /* referenced */
    pf_address server;    /* family 0: the plan decides */
};

/* Guarded by lock, as are the fields of each request that may change. */
static struct {
    pthread_mutex_t lock;
    struct hash_table table; /* the requests of this attachment */
    struct outgoing *first, **end;
    void (*wake)(void); /* NULL: detached */
} outgoing_requests = { .lock = PTHREAD_MUTEX_INITIALIZER, .end = &outgoing_requests.first };

/* --- requests under way ------------------------------------------------------------------------------------------ */

static struct outgoing *outgoing_find_locked(unsigned id)
{
    struct hash_link *link = hash_table_first(&outgoing_requests.table, id);

    return link ? entry_of(link, struct outgoing, link) : NULL;
}

/* Queues the request for the polling thread, and wakes that thread. Takes over a reference of the caller. */
static void outgoing_queue_locked(struct outgoing *outgoing)
{
    outgoing->queued = 1;
    outgoing->next = NULL;
    *outgoing_requests.end = outgoing;
    outgoing_requests.end = &outgoing->next;
    if (outgoing_requests.wake)
        outgoing_requests.wake();
}

/* Drops a reference, and the request with the last one. No lock held: pjsip's are taken. */
static void outgoing_release(struct outgoing *outgoing)
{
    unsigned left;

    pthread_mutex_lock(&outgoing_requests.lock);
    left = --outgoing->refs;
    pthread_mutex_unlock(&outgoing_requests.lock);
    if (left)
        return;
    host.pjsip_tx_data_dec_ref(outgoing->tdata);
    free(outgoing);
}

/*
 * Takes the request out of the table; only the caller that succeeds reports its end. Returns 0 if it has been taken
 * out, or pjfail was detached.
 */
static int outgoing_take_out(unsigned id)
{
    struct outgoing *outgoing;

    pthread_mutex_lock(&outgoing_requests.lock);
    outgoing = outgoing_find_locked(id);
    if (outgoing)
        hash_table_remove(&outgoing_requests.table, &outgoing->link);
    pthread_mutex_unlock(&outgoing_requests.lock);
    if (outgoing)
        outgoing_release(outgoing);
    return outgoing != NULL;
}

/* --- texts ------------------------------------------------------------------------------------------------------- */

/* Returns text as pjsip's functions want it, which declare no argument const but read them only. */
static pj_str_t outgoing_text(const char *text)
{
    pj_str_t string = { (char *)text, (pj_ssize_t)strlen(text) };

    return string;
}

/*
 * Writes the reason and the headers, each with its zero, as pjsip prints what it has parsed (in the packet itself it
 * has unescaped URIs in place). Returns the octets written.
 */
static int outgoing_write_head(const pjsip_msg *msg, char *text, int size)
{
    const pj_str_t *reason = &msg->line.status.reason;
    const pjsip_hdr *header;
    int at = (int)reason->slen;

    if (at)
        memcpy(text, reason->ptr, (size_t)at);
    text[at++] = '\0';
    for (header = msg->hdr.next; header != &msg->hdr && at + 1 < size; header = header->next) {
        int length = header->vptr->print_on((void *)header, text + at, (pj_size_t)(size - at - 1));
        if (length > 0) {
            at += length;
            text[at++] = '\0';
        }
    }
    return at;
}

static int outgoing_write_body(const pjsip_rx_data *rdata, char *text, int size)
{
    pjsip_msg_body *body = RDATA_INFO(rdata)->msg->body;
    const pjsip_clen_hdr *length = RDATA_INFO(rdata)->clen;
    int written = body ? body->print_body(body, text, (pj_size_t)size) : 0;

    /* Octets of a datagram beyond its Content-Length must be discarded (RFC 3261 section 18.3). */
    return written < 0 ? 0 : length && length->len < written ? length->len : written;
}

int outgoing_response_room(const pjsip_rx_data *rdata)
{
    const pjsip_msg *msg = RDATA_INFO(rdata)->msg;
    const pjsip_hdr *header;
    int size = 3 * RDATA_INFO(rdata)->len + 1000; /* printing may escape one octet as three */

    for (header = msg->hdr.next; header != &msg->hdr; header = header->next)
        size += 64; /* and a compact header name is written in full */
    return size;
}

void outgoing_write_response(const pjsip_rx_data *rdata, char *text, int size, int *head, int *body)
{
    *head = outgoing_write_head(RDATA_INFO(rdata)->msg, text, size);
    *body = outgoing_write_body(rdata, text + *head, size - *head);
}

/* Makes a response of the message. Returns NULL if there is no memory. */
static pf_response *outgoing_make_response(const pjsip_rx_data *rdata)
{
    int size = outgoing_response_room(rdata);
    pf_response *response = calloc(1, sizeof *response + (size_t)size);

    if (response) {
        response->code = RDATA_INFO(rdata)->msg->line.status.code;
        outgoing_write_response(rdata, response->message, size, &response->head, &response->body);
        address_of(&response->server, RDATA_SOURCE(rdata), transport_type(rdata->tp_info.transport));
    }
    return response;
}

/* Tells the worker how the request ended. A SIP thread, inside the gate. */
static void outgoing_post_end(void *token, pjsip_event *event)
{
    int kind = event->body.tsx_state.type, answered = kind == PJSIP_EVENT_RX_MSG;
    pf_response *response;

    if (!outgoing_take_out((unsigned)(uintptr_t)token))
        return;
    response = answered ? outgoing_make_response(event->body.tsx_state.src.rdata) : calloc(1, sizeof *response);
    if (!response)
        return;
    response->id = (unsigned)(uintptr_t)token;
    response->at = clock_now();
    if (kind == PJSIP_EVENT_TIMER)
        response->status = PJ_ETIMEDOUT;
    else if (!answered) /* the event itself does not say */
        response->status = tsx_error(event->body.tsx_state.tsx);
    if (!answered && response->status == PJ_SUCCESS)
        response->status = PJ_ECANCELLED;
    event_queue_post(EVENT_RESPONSE, response);
}

/* Passes the end of a request's transaction on, which pjsip tells once. A SIP thread. */
static void outgoing_on_end(void *token, pjsip_event *event)
{
    if (!gate_enter())
        return;
    outgoing_post_end(token, event);
    gate_leave();
}

/*
 * Adds copies of the headers that pjsip has parsed from one line, which are a ring: their text is still where it was
 * parsed, and the request may go out later, on another thread.
 */
static void outgoing_add_header(pjsip_tx_data *tdata, const pjsip_hdr *parsed)
{
    const pjsip_hdr *each = parsed;
    pjsip_hdr *end = &tdata_msg(tdata)->hdr;

    do {
        pjsip_hdr *header = each->vptr->clone(tdata_pool(tdata), each);

        header->prev = end->prev;
        header->next = end;
        end->prev->next = header;
        end->prev = header;
        each = each->next;
    } while (each != parsed);
}

/*
 * Gives the message its own branch, made of its Call-ID. pjsip (2.17, tsx_create_uac()) would put a branch into the
 * transaction's memory; a message that waits for its server or connection while the transaction is terminated is sent
 * all the same, with whatever that memory then holds.
 */
static void outgoing_set_branch(pjsip_tx_data *tdata)
{
    const pjsip_cid_hdr *cid = host.pjsip_msg_find_hdr(tdata_msg(tdata), PJSIP_H_CALL_ID, NULL);
    pjsip_via_hdr *via = host.pjsip_msg_find_hdr(tdata_msg(tdata), PJSIP_H_VIA, NULL);
    char text[PF_MAX_HOST] = PJSIP_RFC3261_BRANCH_ID "Pj";
    size_t prefix = strlen(text);

    copy_text(text + prefix, sizeof text - prefix, &cid->id);
    via->branch_param = outgoing_text(text); /* the copy is in the message's own memory */
    via->branch_param = ((pjsip_via_hdr *)via->vptr->clone(tdata_pool(tdata), via))->branch_param;
}

static int outgoing_fill_in(pjsip_tx_data *tdata, const struct order *order)
{
    int i;

    outgoing_set_branch(tdata);

    for (i = 0; i < order->headers; i++) {
        pj_str_t name = outgoing_text(order->names[i]);
        void *header =
            host.pjsip_parse_hdr(tdata_pool(tdata), &name, (char *)order->values[i], strlen(order->values[i]), NULL);
        if (!header)
            return host_problem(PF_BAD_HEADER, 0, "%s: %s", order->names[i], order->values[i]);
        outgoing_add_header(tdata, header);
    }
    if (order->body.slen) {
        const char *slash = strchr(order->content_type, '/');
        pj_str_t type = { (char *)order->content_type, slash - order->content_type },
                 subtype = outgoing_text(slash + 1);

        tdata_msg(tdata)->body = host.pjsip_msg_body_create(tdata_pool(tdata), &type, &subtype, &order->body);
    }
    return PF_OK;
}

/*
 * Binds the request to a connection to that server, made now if there is none: the failure to make one is told at
 * once. pjsip's polling thread, no lock held.
 */
static pj_status_t outgoing_select_transport(pjsip_tx_data *tdata, const pf_address *server)
{
    pjsip_tpselector selector;
    pjsip_transport *transport;
    pjsip_host_info next_hop;
    char name[PF_MAX_HOST];
    pj_status_t status;

    status = host.pjsip_get_dest_info(tdata_msg(tdata)->line.req.uri, NULL, tdata_pool(tdata), &next_hop);
    if (status != PJ_SUCCESS)
        return status;
    if (next_hop.addr.host.slen >= (pj_ssize_t)sizeof name)
        return PJ_ENAMETOOLONG;
    copy_text(name, sizeof name, &next_hop.addr.host); /* the name that TLS shows and checks */
    status = connections_acquire(server, name, NULL, &transport);
    if (status != PJ_SUCCESS)
        return status;
    memset(&selector, 0, sizeof selector);
    selector.type = PJSIP_TPSELECTOR_TRANSPORT;
    selector.u.transport = transport;
    status = host.pjsip_tx_data_set_transport(tdata, &selector);
    host.pjsip_transport_dec_ref(transport);
    return status;
}

static pj_status_t outgoing_transmit(pjsip_tx_data *tdata, void *id)
{
    return host.pjsip_endpt_send_request(host_endpoint(), tdata, -1, id, &outgoing_on_end);
}

static void outgoing_post_unsent(unsigned id, pj_status_t status)
{
    pf_response *response = outgoing_take_out(id) ? calloc(1, sizeof *response) : NULL;

    if (response) {
        response->id = id;
        response->status = status;
        response->at = clock_now();
        event_queue_post(EVENT_RESPONSE, response);
    }
}

/* Sends the request, or tells the worker that it could not be sent. pjsip's polling thread, no lock held. */
static void outgoing_send(struct outgoing *outgoing)
{
    const pf_address *server = outgoing->server.family ? &outgoing->server : NULL;
    void *id = (void *)(uintptr_t)outgoing->id;
    pj_status_t status = PJ_SUCCESS;

    if (server)
        status = outgoing_select_transport(outgoing->tdata, server);
    if (status == PJ_SUCCESS) {
        host.pjsip_tx_data_add_ref(outgoing->tdata); /* pjsip takes this reference over, whether or not it can send */
        status = server ? override_send(server, outgoing->tdata, &outgoing_transmit, id)
                        : outgoing_transmit(outgoing->tdata, id);
    }
    if (status != PJ_SUCCESS)
        outgoing_post_unsent(outgoing->id, status);
}

/* Sends a request that waits, and ends one that was cancelled. pjsip's polling thread, no lock held. */
static void outgoing_process(struct outgoing *outgoing)
{
    enum outgoing_state state;
    int cancelled;

    pthread_mutex_lock(&outgoing_requests.lock);
    outgoing->queued = 0;
    cancelled = outgoing->cancelled;
    state = outgoing->state;
    if (state == WAITING && !cancelled)
        outgoing->state = SENDING;
    pthread_mutex_unlock(&outgoing_requests.lock);
    if (state == WAITING && !cancelled) {
        outgoing_send(outgoing);
        pthread_mutex_lock(&outgoing_requests.lock);
        state = outgoing->state = SENT;
        cancelled = outgoing->cancelled;
        pthread_mutex_unlock(&outgoing_requests.lock);
    }
    /* The thread that is sending it will see that it was cancelled. */
    if (cancelled && state == WAITING)
        outgoing_post_unsent(outgoing->id, PJ_ECANCELLED);
    else if (cancelled && state == SENT)
        transaction_cancel(outgoing->tdata);
}

static struct outgoing *outgoing_take_queue_locked(void)
{
    struct outgoing *first = outgoing_requests.first;

    outgoing_requests.first = NULL;
    outgoing_requests.end = &outgoing_requests.first;
    return first;
}

void outgoing_run(void)
{
    struct outgoing *outgoing, *next;

    pthread_mutex_lock(&outgoing_requests.lock);
    outgoing = outgoing_take_queue_locked();
    pthread_mutex_unlock(&outgoing_requests.lock);
    for (; outgoing; outgoing = next) {
        next = outgoing->next;
        outgoing_process(outgoing);
        outgoing_release(outgoing);
    }
}

void outgoing_open(void (*wake)(void))
{
    HOLD_LOCK(&outgoing_requests.lock);
    outgoing_requests.wake = wake;
}

/* Moves the request from the table to the list of those to release. */
static void outgoing_drop_locked(struct hash_link *link)
{
    struct outgoing *outgoing = entry_of(link, struct outgoing, link);

    if (outgoing->queued)
        outgoing->refs--;
    else
        outgoing_queue_locked(outgoing);
}

void outgoing_close(void)
{
    struct outgoing *outgoing, *next;

    pthread_mutex_lock(&outgoing_requests.lock);
    outgoing_requests.wake = NULL;
    hash_table_clear(&outgoing_requests.table, &outgoing_drop_locked);
    outgoing = outgoing_take_queue_locked();
    pthread_mutex_unlock(&outgoing_requests.lock);
    for (; outgoing; outgoing = next) {
        next = outgoing->next;
        outgoing_release(outgoing);
    }
}

/*
 * Hands the request over to the polling thread, with the caller's reference to tdata. Returns 0, and takes nothing,
 * without memory or when detached a moment ago. A Python thread, inside the gate.
 */
static int outgoing_hand_over(pjsip_tx_data *tdata, const struct order *order)
{
    struct outgoing *outgoing = calloc(1, sizeof *outgoing);
    HOLD_LOCK(&outgoing_requests.lock);

    if (!outgoing)
        return 0;
    outgoing->link.hash = order->id;
    outgoing->id = order->id;
    outgoing->tdata = tdata;
    outgoing->refs = 2; /* the table's, and that of the polling thread's queue */
    if (order->server)
        outgoing->server = *order->server;
    if (!outgoing_requests.wake || !hash_table_put(&outgoing_requests.table, &outgoing->link)) {
        free(outgoing);
        return 0;
    }
    outgoing_queue_locked(outgoing);
    return 1;
}

static int outgoing_make(const struct order *order)
{
    pjsip_method method;
    pjsip_tx_data *tdata;
    pj_status_t status;
    int result;

    host.pjsip_method_init_np(&method, (pj_str_t *)&order->method);
    status = host.pjsip_endpt_create_request(host_endpoint(), &method, &order->uri, &order->from, &order->to, NULL,
                                             NULL, -1, NULL, &tdata);
    if (status == PJSIP_EINVALIDREQURI)
        return host_problem(PF_BAD_URI, status, "%s", order->uri.ptr);
    if (status == PJSIP_EINVALIDHDR) /* one of these two */
        return host_problem(PF_BAD_HEADER, status, "From: %s, To: %s", order->from.ptr, order->to.ptr);
    if (status != PJ_SUCCESS)
        return host_problem(PF_PJSIP_FAILED, status, "pjsip_endpt_create_request()");
    result = outgoing_fill_in(tdata, order);
    if (result == PF_OK && !outgoing_hand_over(tdata, order))
        result = host_problem(PF_PJSIP_FAILED, PJ_ECANCELLED, "pf_request()");
    if (result != PF_OK)
        host.pjsip_tx_data_dec_ref(tdata);
    return result;
}

int pf_request(unsigned id, const pf_address *server, const char *method, const char *uri, const char *from,
               const char *to, const char *const *names, const char *const *values, int headers,
               const char *content_type, const char *body, int body_length)
{
    struct order order = {
        .id = id,
        .server = server,
        .names = names,
        .values = values,
        .headers = headers,
        .content_type = content_type,
        .method = outgoing_text(method),
        .uri = outgoing_text(uri),
        .from = outgoing_text(from),
        .to = outgoing_text(to),
        .body = { (char *)body, body_length },
    };

    return host_enter() ? host_leave(outgoing_make(&order)) : PF_NO_ENDPOINT;
}

void pf_cancel_request(unsigned id)
{
    struct outgoing *outgoing;

    if (gate_is_forked_child())
        return;
    pthread_mutex_lock(&outgoing_requests.lock);
    outgoing = outgoing_find_locked(id);
    if (outgoing) {
        outgoing->cancelled = 1;
        if (!outgoing->queued) {
            outgoing->refs++;
            outgoing_queue_locked(outgoing);
        }
    }
    pthread_mutex_unlock(&outgoing_requests.lock);
}
