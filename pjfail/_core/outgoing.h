/*
 * outgoing.h: Python's own requests, outside any dialog. pjfail.h declares what Python calls.
 *
 * One mutex guards the requests whose end has not been reported; nothing is called with it held.
 */
#pragma once

void outgoing_open(void (*wake)(void));

/* From now on, reports no ends of requests; pjsip ends those under way by itself. Detaching thread. */
void outgoing_close(void);

/* Sends the requests that wait, and cancels. pjsip's polling thread. */
void outgoing_run(void);
