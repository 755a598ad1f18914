/*
 * probe.c: asks one server with an OPTIONS whether it is alive. The observer sees the answer, and keeps it from the application.
 *
 * Called by Python's worker; core.c has the endpoint's end wait for it.
 */
#include "core.h"
#include "pjfail.h"
#include "resolver.h"

#include <stdio.h>
#include <string.h>

struct probe {
    const pf_address *server;
    const char *host;
};

static int send_probe(pjsip_endpoint *endpt, void *argument)
{
    static const char *const parameters[] = { "", "", ";transport=tcp", ";transport=tls" };
    const struct probe *probe = argument;
    const char *open = strchr(probe->host, ':') ? "[" : "", *close = *open ? "]" : "";
    char uri[PF_MAX_HOST + 40], sender[PF_MAX_HOST + 40];
    pj_str_t target = { uri, 0 }, from = { sender, 0 };
    pjsip_tx_data *tdata;
    pj_status_t status;

    target.slen = snprintf(uri, sizeof uri, "sip:%s%s%s%s", open, probe->host, close,
                           parameters[probe->server->transport & 3]);
    from.slen = snprintf(sender, sizeof sender, "<sip:pjfail@%s%s%s>", open, probe->host, close);
    if (target.slen >= (pj_ssize_t)sizeof uri || from.slen >= (pj_ssize_t)sizeof sender)
        return host_problem(PF_PJSIP_FAILED, PJ_ENAMETOOLONG, "probe");
    status = host.pjsip_endpt_create_request(endpt, host.pjsip_get_options_method(), &target, &from, &target, NULL,
                                             NULL, -1, NULL, &tdata);
    if (status == PJ_SUCCESS)
        status = resolver_send_to(endpt, tdata, probe->server);
    return status == PJ_SUCCESS ? PF_OK : host_problem(PF_PJSIP_FAILED, status, "the probe of a server");
}

int pf_probe(const pf_address *server, const char *host_name)
{
    struct probe probe = { server, host_name };

    return core_with_endpoint(&send_probe, &probe);
}
