/*
 * held_response.h: a final response that the transaction does not get yet, for there may be a better one (RFC 3261 section 16.7).
 *
 * SIP threads that hold no lock of ours.
 */
#pragma once

#include "requests.h"

/* Holds a copy of the response, in place of the last one. Returns 0 when there is no memory. */
int held_response_keep(struct request *request, pjsip_rx_data *rdata);

/* Gives the response that is held to the transaction. Returns 0 when none is. */
int held_response_deliver(struct request *request);
