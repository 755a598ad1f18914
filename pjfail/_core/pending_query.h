/*
 * pending_query.h: one query of pjsip's for a server, until it is answered.
 */
#ifndef PJFAIL_PENDING_QUERY_H
#define PJFAIL_PENDING_QUERY_H

#include "host.h"
#include "request_info.h"

/* What pjsip wants to be called back with. */
struct pending_query {
    struct pending_query *next;
    pj_pool_t *pool;
    pjsip_host_info info;       /* its host is in name */
    void *token;
    pjsip_resolver_callback *callback;
    struct request_info request_info;
    double since;               /* when it was asked */
    char name[PF_MAX_HOST];
};

#endif
