/*
 * outgoing.h: Python's own requests, outside any dialog. pjfail.h declares what Python calls.
 *
 * One mutex guards the requests whose end has not been reported; nothing but wake is called with it held.
 */
#pragma once

#include "layout.h"

/* Begins to take requests. Attaching thread. */
void outgoing_open(void (*wake)(void));

/*
 * Forgets the requests under way, whose ends nobody is told of any more: pjsip ends them by itself. Nobody is inside
 * the gate, no lock held.
 */
void outgoing_close(void);

/* Sends the requests that wait, and ends those that were cancelled. pjsip's polling thread, no lock held. */
void outgoing_run(void);

/* Returns how many octets of room outgoing_write_response() wants. */
int outgoing_response_room(const pjsip_rx_data *rdata);

/* Writes the response's reason and headers, each with its zero, and then its body; tells how many octets each is. Any SIP thread. */
void outgoing_write_response(const pjsip_rx_data *rdata, char *text, int size, int *head, int *body);
