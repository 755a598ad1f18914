#include "override.h"

/* Requests that an application's callback sends meanwhile are not affected. */
static __thread const pf_address *override_only_server;
static __thread const pjsip_tx_data *override_tdata;

pj_status_t override_send(const pf_address *server, pjsip_tx_data *tdata, pj_status_t (*send)(pjsip_tx_data *, void *),
                          void *argument)
{
    const pf_address *server_around = override_only_server;
    const pjsip_tx_data *tdata_around = override_tdata;
    pj_status_t status;

    override_only_server = server;
    override_tdata = tdata;
    status = send(tdata, argument);
    override_only_server = server_around;
    override_tdata = tdata_around;
    return status;
}

const pf_address *override_server(const pjsip_tx_data *tdata)
{
    return override_tdata == tdata ? override_only_server : NULL;
}
