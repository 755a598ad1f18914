/*
 * outgoing.h: requests of Python's own, outside of any dialog. What Python calls stands in pjfail.h.
 *
 * One mutex guards those whose end has not been told; nothing is called with it held.
 */
#pragma once

#include "layout.h"

void outgoing_open(void (*wake)(void));

/* Detaching thread. Nobody is told of the ends of those under way any more: pjsip ends them by itself. */
void outgoing_close(void);

/* pjsip's polling thread. */
void outgoing_run(void);

/* Returns how many octets of room outgoing_write_response() wants. */
int outgoing_response_room(const pjsip_rx_data *rdata);

/* Writes the response's reason and headers, each with its zero, and then its body; tells how many octets each is. Any SIP thread. */
void outgoing_write_response(const pjsip_rx_data *rdata, char *text, int size, int *head, int *body);
