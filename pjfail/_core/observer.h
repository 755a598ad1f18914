/*
 * observer.h: passes on what was seen of a server: to its measurements here, to the worker, to accounts and dialogs.
 * It stores nothing.
 *
 * SIP threads that hold no lock of ours.
 */
#pragma once

#include "layout.h"
#include "pjfail.h"

/* Holds it against the server that it left a request of that method unanswered, which was sent at since. */
void observer_on_silence(const pf_address *server, const char *method, double since);

/* Holds it against the server that its port is closed. */
void observer_on_refusal(const pf_address *server);

/* A response, and what the table of requests knows about it. */
struct observed_response {
    pf_address server;    /* the server of the attempt that it belongs to */
    uint64_t server_hash; /* its address_hash() */
    pf_address
        registrar; /* where its account lives, if this accepts a REGISTER: another server, where this one was hedged to */
    int heard;     /* it came from there; else nobody is credited */
    int after_provisional;
    int settled; /* a 2xx came before, so this one changes neither account nor dialog */
    int account; /* the followed one whose REGISTER it answers, else negative */
    int removes; /* the REGISTER removes a binding */
    double rtt;  /* seconds; negative: must not be measured */
    double at;   /* when it came */
};

void observer_on_response(pjsip_rx_data *rdata, const struct observed_response *observed);

/* A response of ours is on its way: the dialog that it makes belongs to the server that its request came from. */
void observer_on_tx_response(pjsip_tx_data *response);

/* Returns whether the REGISTER removes a binding (RFC 3261 section 10.2.2). */
int observer_removes_binding(pjsip_msg *msg);
