#include "held_response.h"

#include "lock.h"

/* Holds that response, NULL for none. Returns the one that was held, which is the caller's. */
static pjsip_rx_data *held_response_swap(struct request *request, pjsip_rx_data *rdata)
{
    HOLD_LOCK(&requests.lock);
    pjsip_rx_data *old = request->held;

    request->held = rdata;
    return old;
}

void held_response_keep(struct request *request, pjsip_rx_data *rdata)
{
    pjsip_rx_data *copy = NULL, *old;

    if (host.pjsip_rx_data_clone(rdata, 0, &copy) != PJ_SUCCESS)
        return;
    old = held_response_swap(request, copy);
    if (old)
        host.pjsip_rx_data_free_cloned(old);
}

int held_response_deliver(struct request *request)
{
    pjsip_rx_data *rdata = held_response_swap(request, NULL);

    if (!rdata)
        return 0;
    transaction_receive(&request->key, rdata);
    host.pjsip_rx_data_free_cloned(rdata);
    return 1;
}
