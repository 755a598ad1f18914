/*
 * transport.c: what the endpoint can send over.
 *
 * Called by Python's worker. No lock of ours; the transport manager's own for a moment.
 */
#include "host.h"
#include "pjfail.h"

#include <string.h>

static int transport_list(void *argument)
{
    static const int types[] = { 0, PJSIP_TRANSPORT_UDP, PJSIP_TRANSPORT_TCP, PJSIP_TRANSPORT_TLS };
    pj_pool_t *pool = host.pjsip_endpt_create_pool(host_endpoint(), "pjfail", 500, 500);
    unsigned *found = argument;
    int transport;

    if (!pool)
        return host_problem(PF_PJSIP_FAILED, PJ_ENOMEM, "pjsip_endpt_create_pool()");
    for (transport = PF_UDP; transport <= PF_TLS; transport++) {
        int ipv6;

        for (ipv6 = 0; ipv6 <= 1; ipv6++) {
            pjsip_tpmgr_fla2_param param;

            memset(&param, 0, sizeof param);
            param.tp_type = (pjsip_transport_type_e)(types[transport] | (ipv6 ? PJSIP_TRANSPORT_IPV6 : 0));
            if (host.pjsip_tpmgr_find_local_addr2(host.pjsip_endpt_get_tpmgr(host_endpoint()), pool, &param) == PJ_SUCCESS)
                *found |= 1u << (2 * transport + ipv6);
        }
    }
    host.pjsip_endpt_release_pool(host_endpoint(), pool);
    return PF_OK;
}

int pf_transports(unsigned *found)
{
    *found = 0;
    return host_with_endpoint(&transport_list, found);
}
