/*
 * request.h: requests outside of any dialog. What Python calls stands in pjfail.h.
 *
 * One mutex guards those whose end has not been told; nothing is called with it held.
 */
#ifndef PJFAIL_REQUEST_H
#define PJFAIL_REQUEST_H

void request_open(void (*wake)(void));

/* Detaching thread. Nobody is told of the ends of those under way any more: pjsip ends them by itself. */
void request_close(void);

/* pjsip's polling thread. */
void request_run(void);

#endif
