/*
 * request.c: one request outside of any dialog, in a transaction of its own, over a transport to exactly one server.
 *
 * Sent by Python threads, which core.c has the endpoint's end wait for; its end comes on a SIP thread, and goes to the worker.
 */
#include "core.h"
#include "layout.h"
#include "pjfail.h"
#include "plans.h"
#include "queue.h"
#include "resolver.h"

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

/* pjsip takes what it is given for read-only, and says otherwise. */
static pj_str_t text_of(const char *text)
{
    pj_str_t string = { (char *)text, (pj_ssize_t)strlen(text) };

    return string;
}

/* A SIP thread, with the transaction's lock; once a request. */
static void on_end(void *token, pjsip_event *event)
{
    const pjsip_rx_data *rdata = NULL;
    pf_response *response;
    int length = 0;

    if (event->body.tsx_state.type == PJSIP_EVENT_RX_MSG) {
        rdata = event->body.tsx_state.src.rdata;
        length = rdata->msg_info.len;
    }
    response = calloc(1, sizeof *response + (size_t)length);
    if (response) {
        response->id = (unsigned)(uintptr_t)token;
        response->at = host_now();
        if (rdata) {
            response->length = length;
            memcpy(response->message, rdata->msg_info.msg_buf, (size_t)length);
            address_of(&response->server, &rdata->pkt_info.src_addr, transport_type(rdata->tp_info.transport));
        } else if (event->body.tsx_state.type == PJSIP_EVENT_TRANSPORT_ERROR) {
            response->status = transaction_error(event->body.tsx_state.tsx);
        }
        if (!rdata && response->status == PJ_SUCCESS)
            response->status = PJ_ETIMEDOUT;
        queue_put_note(NOTE_RESPONSE, response);
    }
}

static void add(pjsip_msg *msg, void *added)
{
    pjsip_hdr *header = added, *end = &msg->hdr;

    header->prev = end->prev;
    header->next = end;
    end->prev->next = header;
    end->prev = header;
}

static int fill_in(pjsip_tx_data *tdata, const struct order *order)
{
    int i;

    for (i = 0; i < order->headers; i++) {
        pj_str_t name = text_of(order->names[i]);
        void *header = host.pjsip_parse_hdr(tdata_pool(tdata), &name, (char *)order->values[i],
                                            strlen(order->values[i]), NULL);
        if (!header)
            return host_problem(PF_BAD_URI, 0, "%s: %s", order->names[i], order->values[i]);
        add(tdata_msg(tdata), header);
    }
    if (order->body.slen) {
        const char *slash = strchr(order->content_type, '/');
        pj_str_t type = { (char *)order->content_type, slash - order->content_type }, subtype = text_of(slash + 1);

        tdata_msg(tdata)->body = host.pjsip_msg_body_create(tdata_pool(tdata), &type, &subtype, &order->body);
    }
    return PF_OK;
}

/* Over a connection to that server, made now if there is none: one that cannot be is told of at once. */
static pj_status_t select_transport(pjsip_endpoint *endpt, pjsip_tx_data *tdata, const pf_address *server)
{
    pjsip_tpselector selector;
    pjsip_transport *transport;
    pjsip_host_info next_hop;
    pj_sockaddr address;
    pj_status_t status;

    status = host.pjsip_get_dest_info(tdata_msg(tdata)->line.req.uri, NULL, tdata_pool(tdata), &next_hop);
    if (status != PJ_SUCCESS)
        return status;
    tdata_set_dest_name(tdata, &next_hop.addr.host);    /* what TLS shows and checks */
    status = host.pjsip_endpt_acquire_transport2(endpt, (pjsip_transport_type_e)address_pjsip_type(server), &address,
                                                 address_to_sockaddr(server, &address), NULL, tdata, &transport);
    if (status != PJ_SUCCESS)
        return status;
    memset(&selector, 0, sizeof selector);
    selector.type = PJSIP_TPSELECTOR_TRANSPORT;
    selector.u.transport = transport;
    status = host.pjsip_tx_data_set_transport(tdata, &selector);
    host.pjsip_transport_dec_ref(transport);
    return status;
}

static pj_status_t transmit(pjsip_tx_data *tdata, void *argument)
{
    const struct order *order = argument;

    return host.pjsip_endpt_send_request(host.pjsua_get_pjsip_endpt(), tdata, -1, (void *)(uintptr_t)order->id, &on_end);
}

static int request(pjsip_endpoint *endpt, void *argument)
{
    const struct order *order = argument;
    pjsip_method method;
    pjsip_tx_data *tdata;
    pj_status_t status;
    int result;

    host.pjsip_method_init_np(&method, (pj_str_t *)&order->method);
    status = host.pjsip_endpt_create_request(endpt, &method, &order->uri, &order->from, &order->to, NULL, NULL, -1, NULL,
                                             &tdata);
    if (status != PJ_SUCCESS)
        return host_problem(PF_PJSIP_FAILED, status, "pjsip_endpt_create_request()");
    result = fill_in(tdata, order);
    if (result != PF_OK) {
        host.pjsip_tx_data_dec_ref(tdata);
        return result;
    }
    status = order->server ? select_transport(endpt, tdata, order->server) : PJ_SUCCESS;
    if (status != PJ_SUCCESS) {
        host.pjsip_tx_data_dec_ref(tdata);
        return host_problem(PF_PJSIP_FAILED, status, "pjsip_endpt_acquire_transport2()");
    }
    status = resolver_send_to(order->server, tdata, &transmit, argument);
    return status == PJ_SUCCESS ? PF_OK : host_problem(PF_PJSIP_FAILED, status, "pjsip_endpt_send_request()");
}

int pf_request(unsigned id, const pf_address *server, const char *method, const char *uri, const char *from,
               const char *to, const char *const *names, const char *const *values, int headers,
               const char *content_type, const char *body, int body_length)
{
    struct order order = {
        .id = id, .server = server, .names = names, .values = values, .headers = headers, .content_type = content_type,
        .method = text_of(method), .uri = text_of(uri), .from = text_of(from), .to = text_of(to),
        .body = { (char *)body, body_length },
    };

    return core_with_endpoint(&request, &order);
}
