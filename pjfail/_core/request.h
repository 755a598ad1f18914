/*
 * request.h: requests outside of any dialog. What Python calls stands in pjfail.h.
 *
 * One mutex guards those that wait to be sent; nothing is called with it held.
 */
#ifndef PJFAIL_REQUEST_H
#define PJFAIL_REQUEST_H

void request_open(void (*wake)(void));
void request_close(void);

/* pjsip's polling thread. */
void request_run(void);

#endif
