/*
 * observer.h: passes on what was seen of a server: to its measurements here, to the worker, to accounts and dialogs.
 * It stores nothing.
 *
 * SIP threads that hold no lock of ours.
 */
#pragma once

#include "layout.h"
#include "pjfail.h"

/* A server did not answer a request of that method, which was sent at since. */
void observer_on_silence(const pf_address *server, const char *method, double since);

/* A server's port is closed. */
void observer_on_refusal(const pf_address *server);

/* A response, and what the table of requests knows about it. */
struct observed_response {
    pf_address server; /* the server of the attempt that it belongs to */
    int heard;         /* it came from that server; otherwise no server is credited */
    int after_provisional;
    int settled; /* a 2xx came before, so this one changes neither account nor dialog */
    int account; /* the followed account whose REGISTER it answers, else -1 */
    int removes; /* the REGISTER removes a binding */
    double rtt;  /* seconds; negative: must not be measured */
};

void observer_on_response(pjsip_rx_data *rdata, const struct observed_response *observed);

/* Returns whether the REGISTER removes a binding (RFC 3261 section 10.2.2). */
int observer_removes_binding(pjsip_msg *msg);
