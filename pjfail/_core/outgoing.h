/*
 * outgoing.h: requests of Python's own, outside of any dialog. What Python calls stands in pjfail.h.
 *
 * One mutex guards those whose end has not been told; nothing is called with it held.
 */
#pragma once

void outgoing_open(void (*wake)(void));

/* Detaching thread. Nobody is told of the ends of those under way any more: pjsip ends them by itself. */
void outgoing_close(void);

/* pjsip's polling thread. */
void outgoing_run(void);
