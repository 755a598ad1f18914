/*
 * held_response.h: holds a final response back from the transaction, because a better one may come (RFC 3261 section
 * 16.7).
 *
 * SIP threads that hold no lock of ours.
 */
#pragma once

#include "requests.h"

/* Holds a copy of the response, in place of the last one. Returns 0 when there is no memory. */
int held_response_keep(struct request *request, pjsip_rx_data *rdata);

/* Passes the held response to the transaction. Returns 0 if there is none. */
int held_response_deliver(struct request *request);
