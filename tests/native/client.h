/*
 * client.h: a pjsua endpoint with pjfail's core attached, for the C programs of the tests and of the bench. Everything
 * here reaches the core through pjfail.h alone.
 */
#ifndef CLIENT_H
#define CLIENT_H

#include <pjsua-lib/pjsua.h>

#include "pjfail.h"

/* Seconds of CLOCK_MONOTONIC. */
double client_now(void);

/* CPU seconds that this process has used. */
double client_cpu(void);

/* Sleeps until client_now() is when. */
void client_sleep_until(double when);

/* Starts pjsua with so many polling threads, with UDP and TCP transports at 127.0.0.1. Returns 0 on failure. */
int client_start(int polling_threads);

/* Attaches the core and starts the thread that fetches its events. Returns 0 on failure. */
int client_attach(void);

/* Detaches the core and ends that thread. */
void client_detach(void);

/* Fills in an IPv4 server. transport is PF_UDP or PF_TCP. */
pf_address client_server(const char *ip, int port, int transport);

/* Publishes a plan that never ends for the domain: the servers in this order. Returns 0 on failure. */
int client_publish(const char *domain, int transport, const pf_address *servers, int count);

/* Sends a request in a transaction of its own; on_end is called with token when that ends. Returns 0 on failure. */
int client_request(const char *method, const char *uri, void *token, void (*on_end)(void *token, pjsip_event *event));

#endif
