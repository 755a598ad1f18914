#include "forking.h"

#include "raw_send.h"
#include "sip_write.h"

#include <stdlib.h>

/* Room for a CANCEL, ACK or BYE: headers of the request and of its response, no body. */
enum { MESSAGE_SIZE = 4000 };

/* The request as that transport has it. Freed with free(copy). */
struct written {
    const char *bytes;
    size_t size; /* 0: no memory */
    char *copy;
};

/* Writes the request for that transport: its Via is another one where that is of another kind, or family, than the first. */
static struct written forking_write(const struct request *request, const pjsip_transport *transport)
{
    struct written written = { request->bytes, request->size, NULL };

    if (transport_type(transport) == request->type)
        return written;
    written.copy = malloc(request->size + SIP_WRITE_VIA_ROOM);
    written.bytes = written.copy;
    written.size = written.copy ? sip_write_for_transport(written.copy, transport, request->bytes, request->size) : 0;
    return written;
}

/*
 * Returns over, or what the request goes to the server over, found or made; referenced. NULL: there is none, or the request
 * is only watched, so that nothing can be made of it, and has ended while its response was on the way.
 */
static pjsip_transport *forking_hold_transport(const struct request *request, const pf_address *server,
                                               pjsip_transport *over)
{
    pjsip_transport *transport = over ? NULL : request_hold_transport(request, server);

    if (!request->bytes)
        return NULL;
    if (over)
        host.pjsip_transport_add_ref(over);
    else if (!transport && raw_send_connect(server, request->name, &request->selector, &transport) != PJ_SUCCESS)
        return NULL;
    return over ? over : transport;
}

pj_status_t forking_send(const struct request *request, const pf_address *server, pjsip_transport *over)
{
    struct written written = forking_write(request, over);
    pj_status_t status = written.size ? raw_send_over(over, server, written.bytes, written.size) : PJ_ENOMEM;

    free(written.copy);
    return status;
}

/* Sends an ACK or a CANCEL for the request. over: NULL: found or made. to: of what the ACK acknowledges. */
static void forking_send_for(const struct request *request, const pf_address *server, pjsip_transport *over,
                             const char *method, const pjsip_to_hdr *to)
{
    pjsip_transport *transport = forking_hold_transport(request, server, over);
    char text[MESSAGE_SIZE];
    struct written written;
    size_t size;

    if (!transport)
        return;
    written = forking_write(request, transport);
    size = written.size ? sip_write_request(text, sizeof text, method, written.bytes, written.size, to) : 0;
    if (size)
        raw_send_over(transport, server, text, size);
    free(written.copy);
    host.pjsip_transport_dec_ref(transport);
}

void forking_cancel(const struct request *request, const pf_address *server)
{
    forking_send_for(request, server, NULL, "CANCEL", NULL);
}

void forking_acknowledge(const struct request *request, const pf_address *server, pjsip_transport *over,
                         pjsip_rx_data *response)
{
    forking_send_for(request, server, over, "ACK", RDATA_INFO(response)->to);
}

void forking_hang_up(const struct request *request, const pf_address *server, pjsip_transport *over,
                     pjsip_rx_data *response)
{
    static const char *const methods[] = { "ACK", "BYE" };
    pjsip_transport *transport = forking_hold_transport(request, server, over);
    char text[MESSAGE_SIZE];
    struct written written;
    int i;

    if (!transport)
        return;
    written = forking_write(request, transport);
    for (i = 0; i < 2 && written.size; i++) {
        size_t size = sip_write_in_dialog(text, sizeof text, methods[i], response, written.bytes, written.size);

        if (size)
            raw_send_over(transport, server, text, size);
    }
    free(written.copy);
    host.pjsip_transport_dec_ref(transport);
}
