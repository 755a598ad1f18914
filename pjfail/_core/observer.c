#include "observer.h"

#include "affinity.h"
#include "connections.h"
#include "dialogs.h"
#include "servers.h"
#include "text.h"

#include <string.h>

static void observer_set_outcome(pf_outcome *outcome, int seen, const char *method)
{
    memset(outcome, 0, sizeof *outcome);
    outcome->seen = seen;
    outcome->retry_after = -1;
    strcpy(outcome->method, method);
}

void observer_on_silence(const pf_address *server, const char *method, double since)
{
    pf_outcome outcome;

    observer_set_outcome(&outcome, PF_SILENT, method);
    outcome.began = since;
    servers_record_failure(server, &outcome);
}

void observer_on_refusal(const pf_address *server)
{
    pf_outcome outcome;

    observer_set_outcome(&outcome, PF_REFUSED, "");
    servers_record_failure(server, &outcome);
}

static int observer_retry_after(pjsip_msg *msg)
{
    pjsip_retry_after_hdr *header = host.pjsip_msg_find_hdr(msg, PJSIP_H_RETRY_AFTER, NULL);

    return header ? header->ivalue : -1;
}

/* Returns whether the code says something about the server, not about the request (RFC 3261 section 21.5). */
static int observer_is_server_error(int code)
{
    return code == PJSIP_SC_INTERNAL_SERVER_ERROR || code == PJSIP_SC_BAD_GATEWAY || code == PJSIP_SC_SERVER_TIMEOUT;
}

int observer_removes_binding(pjsip_msg *msg)
{
    pjsip_expires_hdr *expires = host.pjsip_msg_find_hdr(msg, PJSIP_H_EXPIRES, NULL);

    return expires && !expires->ivalue;
}

void observer_on_response(pjsip_rx_data *rdata, const struct observed_response *observed)
{
    pjsip_msg *msg = RDATA_INFO(rdata)->msg;
    const pjsip_method *method = &RDATA_INFO(rdata)->cseq->method;
    int code = msg->line.status.code;
    char name[16];

    if (observed->server.transport != PF_UDP)
        connections_on_answer(rdata->tp_info.transport);
    if (code >= 200 && !observed->settled && method->id == PJSIP_REGISTER_METHOD) {
        /* The account may have been followed or unfollowed since the request was sent. */
        int account = affinity_registered(msg, observed->account);

        if (account >= 0)
            affinity_tell(account, msg, &observed->server, code, observer_retry_after(msg), observed->removes);
    }
    copy_text(name, sizeof name, &method->name);
    if (code == PJSIP_SC_SERVICE_UNAVAILABLE) {
        pf_outcome outcome;

        observer_set_outcome(&outcome, PF_UNAVAILABLE, name);
        outcome.code = code;
        outcome.retry_after = observer_retry_after(msg);
        outcome.after_provisional = observed->after_provisional;
        if (observed->heard)
            servers_record_failure(&observed->server, &outcome);
        return;
    }
    if (observed->heard)
        servers_record_answer(&observed->server, name, code,
                              !observed->after_provisional && observer_is_server_error(code), observed->rtt);
    if (!observed->settled)
        dialogs_on_response(rdata, &observed->server);
}
