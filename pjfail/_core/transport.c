/*
 * transport.c: finds out which transports the endpoint has.
 *
 * Called by Python's worker. No lock of ours; briefly the transport manager's.
 */
#include "address.h"
#include "host.h"

#include <string.h>

static int transport_list(unsigned *found)
{
    pj_pool_t *pool = host.pjsip_endpt_create_pool(host_endpoint(), "pjfail", 500, 500);
    unsigned bit;

    if (!pool)
        return host_problem(PF_PJSIP_FAILED, PJ_ENOMEM, "pjsip_endpt_create_pool()");
    for (bit = 2 * PF_UDP; bit < 2 * PF_TLS + 2; bit++) {
        const pf_address any = { .transport = (unsigned char)(bit / 2), .family = bit % 2 ? 6 : 4 };
        pjsip_tpmgr_fla2_param param;

        memset(&param, 0, sizeof param);
        param.tp_type = (pjsip_transport_type_e)address_pjsip_type(&any);
        if (host.pjsip_tpmgr_find_local_addr2(host.pjsip_endpt_get_tpmgr(host_endpoint()), pool, &param) == PJ_SUCCESS)
            *found |= 1u << bit;
    }
    host.pjsip_endpt_release_pool(host_endpoint(), pool);
    return PF_OK;
}

int pf_transports(unsigned *found)
{
    *found = 0;
    return host_enter() ? host_leave(transport_list(found)) : PF_NO_ENDPOINT;
}
