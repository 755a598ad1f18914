#include "forking.h"

#include "raw_send.h"
#include "sip_write.h"

/* Room for a CANCEL, ACK or BYE: headers of the request and of its response, no body. */
enum { MESSAGE_SIZE = 4000 };

pj_status_t forking_send(const struct request *request, const pf_address *server, pjsip_transport *over,
                         const char *bytes, size_t size)
{
    pjsip_transport *connection;
    pj_status_t status;

    if (request->udp) {
        raw_send_datagram(request->udp, server, bytes, size);
        return PJ_SUCCESS;
    }
    if (over)
        return raw_send_over(over, bytes, size);
    status = raw_send_connect(server, request->name, &request->selector, &connection);
    if (status == PJ_SUCCESS) {
        status = raw_send_over(connection, bytes, size);
        host.pjsip_transport_dec_ref(connection);
    }
    return status;
}

void forking_cancel_others(struct request *request, int except)
{
    char text[MESSAGE_SIZE];
    pf_address others[MAX_ATTEMPTS];
    unsigned count = 0, i;
    size_t size;

    pthread_mutex_lock(&requests.lock);
    for (i = 0; i < request->state.attempt_count; i++)
        if (failover_may_ring(&request->state.attempts[i]) && (int)i != except)
            others[count++] = request->attempts[i].server;
    pthread_mutex_unlock(&requests.lock);
    size = count ? sip_write_request(text, sizeof text, "CANCEL", request->bytes, request->size, NULL) : 0;
    for (i = 0; i < count && size; i++)
        forking_send(request, &others[i], NULL, text, size);
}

void forking_acknowledge(const struct request *request, const pf_address *server, pjsip_transport *over,
                         pjsip_rx_data *response)
{
    char text[MESSAGE_SIZE];
    size_t size = sip_write_request(text, sizeof text, "ACK", request->bytes, request->size, RDATA_INFO(response)->to);

    if (size)
        forking_send(request, server, over, text, size);
}

void forking_hang_up(const struct request *request, const pf_address *server, pjsip_transport *over,
                     pjsip_rx_data *response)
{
    static const char *const methods[] = { "ACK", "BYE" };
    char text[MESSAGE_SIZE];
    int i;

    for (i = 0; i < 2; i++) {
        size_t size = sip_write_in_dialog(text, sizeof text, methods[i], response, request->bytes, request->size);

        if (size)
            forking_send(request, server, over, text, size);
    }
}
