#include "held_response.h"

#include "address.h"
#include "lock.h"
#include "transaction.h"

/* Holds that response (NULL: none). Returns the one held before, which the caller then owns. */
static pjsip_rx_data *held_response_swap(struct request *request, pjsip_rx_data *rdata)
{
    HOLD_LOCK(&requests.lock);
    pjsip_rx_data *old = request->held;

    request->held = rdata;
    return old;
}

int held_response_keep(struct request *request, pjsip_rx_data *rdata)
{
    pjsip_rx_data *copy = NULL, *old;

    if (host.pjsip_rx_data_clone(rdata, 0, &copy) != PJ_SUCCESS)
        return 0;
    old = held_response_swap(request, copy);
    if (old)
        host.pjsip_rx_data_free_cloned(old);
    return 1;
}

/* Moves the transaction to the server that gave the response, so that pjsip's ACK goes there. No lock held. */
static void held_response_move(struct request *request, const pjsip_rx_data *rdata)
{
    pjsip_transport *connection;
    pf_address source;
    int attempt;

    if (!address_of(&source, RDATA_SOURCE(rdata), transport_type(rdata->tp_info.transport)))
        return;
    pthread_mutex_lock(&requests.lock);
    attempt = request_attempt_at_locked(request, &source, NULL);
    connection = request_hold_connection_locked(request, attempt);
    pthread_mutex_unlock(&requests.lock);
    if (connection) {
        request_move_transaction(request, &source, connection);
        host.pjsip_transport_dec_ref(connection);
    }
}

int held_response_deliver(struct request *request)
{
    pjsip_rx_data *rdata = held_response_swap(request, NULL);

    if (!rdata)
        return 0;
    held_response_move(request, rdata);
    transaction_receive(&request->key, rdata);
    host.pjsip_rx_data_free_cloned(rdata);
    return 1;
}
