#include "observer.h"

#include "address.h"
#include "affinity.h"
#include "calls.h"
#include "connections.h"
#include "dialogs.h"
#include "registrations.h"
#include "servers.h"
#include "standby.h"
#include "subscriptions.h"
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

/* Returns whether the code tells of the server, not of the request (RFC 3261 section 21.5). */
static int observer_is_server_error(int code)
{
    return code == PJSIP_SC_INTERNAL_SERVER_ERROR || code == PJSIP_SC_BAD_GATEWAY || code == PJSIP_SC_SERVER_TIMEOUT;
}

int observer_removes_binding(pjsip_msg *msg)
{
    pjsip_expires_hdr *expires = host.pjsip_msg_find_hdr(msg, PJSIP_H_EXPIRES, NULL);

    return expires && !expires->ivalue;
}

/* Records what the response says of its server. */
static void observer_record(pjsip_msg *msg, const pjsip_method *method, const struct observed_response *observed)
{
    int code = msg->line.status.code;
    char name[16];

    copy_text(name, sizeof name, &method->name);
    if (code == PJSIP_SC_SERVICE_UNAVAILABLE) {
        pf_outcome outcome;

        observer_set_outcome(&outcome, PF_UNAVAILABLE, name);
        outcome.code = code;
        outcome.retry_after = observer_retry_after(msg);
        outcome.after_provisional = observed->after_provisional;
        servers_record_failure(&observed->server, &outcome);
    } else {
        servers_record_answer(&observed->server, observed->server_hash, name, code,
                              !observed->after_provisional && observer_is_server_error(code), observed->rtt,
                              observed->at);
    }
}

void observer_on_response(pjsip_rx_data *rdata, const struct observed_response *observed)
{
    pjsip_msg *msg = RDATA_INFO(rdata)->msg;
    const pjsip_method *method = &RDATA_INFO(rdata)->cseq->method;
    int code = msg->line.status.code;

    if (observed->server.transport != PF_UDP)
        connections_on_answer(rdata->tp_info.transport);
    if (observed->heard)
        observer_record(msg, method, observed);
    /* After the outcome: a worker that fetches in between would take the account from a server that is up again. */
    if (code >= 200 && !observed->settled && method->id == PJSIP_REGISTER_METHOD) {
        /* The account may have been followed or unfollowed since the request was sent. */
        int account = affinity_registered(msg, observed->account);

        if (account >= 0 || account == AFFINITY_NOT_FOLLOWED) {
            const pf_address original = servers_original(&observed->registrar);
            const pf_address answered = servers_original(&observed->server);

            if (account >= 0 && code < 300)
                standby_on_registered(account, msg);
            affinity_tell(account, msg, NULL, &original, &answered, code, observer_retry_after(msg), observed->removes);
            if (code < 300)
                registrations_on_success(account >= 0 ? account : REGISTRATIONS_UNKNOWN, msg, rdata->tp_info.transport,
                                         observed->removes, affinity_keepalive(account, msg));
        }
    }
    /* The REGISTER was hedged and accepted elsewhere before, but the account stays on its own server, over this connection. */
    if (code / 100 == 2 && observed->settled && method->id == PJSIP_REGISTER_METHOD && observed->account >= 0) {
        const pf_address answered = servers_original(&observed->server);

        if (affinity_is_on(observed->account, msg, &answered))
            registrations_on_success(observed->account, msg, rdata->tp_info.transport, observed->removes,
                                     affinity_keepalive(observed->account, msg));
    }
    if (code / 100 == 2 && !observed->settled && method->name.slen == 9 && !memcmp(method->name.ptr, "SUBSCRIBE", 9)) {
        int account = affinity_registered(msg, AFFINITY_NO_ACCOUNT);

        if (account >= 0 || affinity_finds_accounts()) {
            const pf_address original = servers_original(&observed->server);

            subscriptions_on_success(account >= 0 ? account : SUBSCRIPTIONS_UNKNOWN, rdata, &original);
        }
    }
    if (code != PJSIP_SC_SERVICE_UNAVAILABLE && !observed->settled) {
        dialogs_on_response(rdata, &observed->server, observed->at);
        calls_on_accepted(&RDATA_INFO(rdata)->cid->id, method, code, rdata->tp_info.transport, &observed->server);
    }
}

/*
 * The server that a request came from, of whose Via the response has a copy. Over a connection that the server made, the request
 * came from a port of the moment, and the server listens at the one that its Via names (RFC 3261 section 18.1.1).
 * Returns 0 where no plan has that server.
 */
static int observer_server_of_request(pjsip_tx_data *response, pf_address *server)
{
    const pjsip_via_hdr *via = host.pjsip_msg_find_hdr(tdata_msg(response), PJSIP_H_VIA, NULL);

    if (!via || !address_of(server, tdata_destination(response), transport_type(tdata_transport(response))))
        return 0;
    if (servers_know(server))
        return 1;
    server->port = (unsigned short)via->sent_by.port;
    if (!server->port)
        server->port = server->transport == PF_TLS ? 5061 : 5060;
    return servers_know(server);
}

void observer_on_tx_response(pjsip_tx_data *response)
{
    const pjsip_cid_hdr *call_id = host.pjsip_msg_find_hdr(tdata_msg(response), PJSIP_H_CALL_ID, NULL);
    const pjsip_cseq_hdr *cseq = host.pjsip_msg_find_hdr(tdata_msg(response), PJSIP_H_CSEQ, NULL);
    pf_address server;

    if (!dialogs_concern(tdata_msg(response)) || !observer_server_of_request(response, &server))
        return;
    dialogs_on_own_response(tdata_msg(response), &server);
    if (call_id && cseq)
        calls_on_accepted(&call_id->id, &cseq->method, tdata_msg(response)->line.status.code, tdata_transport(response),
                          &server);
}
