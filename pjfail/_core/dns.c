/*
 * dns.c: sends the worker's queries to pjsip's DNS resolver, and puts the answers into the event queue.
 *
 * The worker starts a query. The answer comes on pjsip's polling thread, or on the worker itself if the resolver has
 * it in its cache.
 */
#include "dns.h"

#include "event_queue.h"
#include "gate.h"
#include "lock.h"
#include "pjfail.h"
#include "resolver.h"
#include "text.h"

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * A resolver lives as long as its endpoint: if an open query's timer fires after pj_dns_resolver_destroy(), pjsip's
 * assertion ends the program (pjsip 2.17, on_timeout(); upstream #5167, #5182). The next attachment that wants the
 * same name servers gets the same resolver, with its cache. When all are in use, the one opened longest ago gets the
 * new name servers.
 */
struct dns_resolver {
    pj_dns_resolver *resolver; /* NULL: free */
    pjsip_endpoint *endpt;
    __typeof__(&pj_dns_resolver_destroy) destroy; /* of the same pjsip: the process may have loaded another one */
    char servers[PJ_DNS_RESOLVER_MAX_NS * (PJ_INET6_ADDRSTRLEN + 8)];
    int handle;
};

/* Guarded by lock. */
enum { MAX_RESOLVERS = 8 };
static struct {
    pthread_mutex_t lock;
    struct dns_resolver resolvers[MAX_RESOLVERS];
    int last_handle;
    int detached_handle; /* handles up to this one belong to earlier attachments, and are never given out again */
} dns = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* Copies a record. Returns 0 if it is of a type that we do not know. */
static int dns_copy_record(pf_record *record, const pj_dns_parsed_rr *from)
{
    memset(record, 0, sizeof *record);
    copy_text(record->name, sizeof record->name, &from->name);
    record->type = from->type;
    record->ttl = from->ttl;
    switch (from->type) {
    case PJ_DNS_TYPE_A: memcpy(record->ip, &from->rdata.a.ip_addr, 4); return 1;
    case PJ_DNS_TYPE_AAAA: memcpy(record->ip, &from->rdata.aaaa.ip_addr, 16); return 1;
    case PJ_DNS_TYPE_CNAME: copy_text(record->target, sizeof record->target, &from->rdata.cname.name); return 1;
    case PJ_DNS_TYPE_SRV:
        record->priority = from->rdata.srv.prio;
        record->weight = from->rdata.srv.weight;
        record->port = from->rdata.srv.port;
        copy_text(record->target, sizeof record->target, &from->rdata.srv.target);
        return 1;
    default: return 0;
    }
}

/* Tells the worker what the query has brought. A thread of pjsip's, inside the gate. */
static void dns_post_answer(void *token, pj_status_t status, pj_dns_parsed_packet *packet)
{
    unsigned count = status == PJ_SUCCESS && packet ? packet->hdr.anscount : 0, i;
    pf_dns_answer *answer = calloc(1, sizeof *answer + count * sizeof(pf_record));

    if (!answer)
        return; /* the worker's own deadline ends the query */
    answer->id = (unsigned)(uintptr_t)token;
    answer->status = status;
    answer->exists = status != PJ_STATUS_FROM_DNS_RCODE(PJ_DNS_RCODE_NXDOMAIN);
    for (i = 0; i < count; i++)
        answer->count += dns_copy_record(&answer->records[answer->count], &packet->ans[i]);
    event_queue_post(EVENT_DNS_ANSWER, answer);
}

/* Passes the answer to a query on; the token is the query's number, which no other attachment has. A thread of pjsip's. */
static void dns_on_answer(void *token, pj_status_t status, pj_dns_parsed_packet *packet)
{
    if (!gate_enter())
        return;
    dns_post_answer(token, status, packet);
    gate_leave();
}

/* --- from Python ------------------------------------------------------------------------------------------------- */

/* Returns the endpoint's resolver for these name servers, else one that may be given them; NULL: there is none. */
static struct dns_resolver *dns_find_resolver_locked(const pjsip_endpoint *endpt, const char *servers)
{
    struct dns_resolver *unused = NULL, *oldest = NULL;
    int i;

    for (i = 0; i < MAX_RESOLVERS; i++) {
        struct dns_resolver *each = &dns.resolvers[i];

        if (!each->resolver)
            unused = each;
        else if (each->endpt == endpt && !strcmp(each->servers, servers))
            return each;
        else if (each->endpt == endpt && each->handle <= dns.detached_handle &&
                 (!oldest || each->handle < oldest->handle))
            oldest = each;
    }
    return unused ? unused : oldest;
}

/* Gives these name servers to found, which does not belong to this attachment. Returns a PF_ result. */
static int dns_set_servers_locked(pjsip_endpoint *endpt, struct dns_resolver *found, const char *const *addresses,
                                  const unsigned short *ports, int count, const char *text)
{
    pj_str_t servers[PJ_DNS_RESOLVER_MAX_NS];
    pj_status_t status;
    int i;

    if (!found->resolver) {
        status = host.pjsip_endpt_create_resolver(endpt, &found->resolver);
        if (status != PJ_SUCCESS) {
            found->resolver = NULL;
            return host_problem(PF_PJSIP_FAILED, status, "pjsip_endpt_create_resolver()");
        }
        found->endpt = endpt;
        found->destroy = host.pj_dns_resolver_destroy;
        found->handle = 0;
    }
    for (i = 0; i < count; i++) {
        servers[i].ptr = (char *)(uintptr_t)addresses[i];
        servers[i].slen = (pj_ssize_t)strlen(addresses[i]);
    }
    found->servers[0] = '\0';
    status = host.pj_dns_resolver_set_ns(found->resolver, (unsigned)count, servers, ports);
    if (status != PJ_SUCCESS)
        return host_problem(PF_PJSIP_FAILED, status, "pj_dns_resolver_set_ns()");
    strcpy(found->servers, text);
    return PF_OK;
}

static int dns_open_resolver(const char *const *addresses, const unsigned short *ports, int count, int *handle)
{
    pjsip_endpoint *endpt = host_endpoint();
    struct dns_resolver *found;
    char servers[sizeof found->servers] = "";
    size_t length = 0;
    int result = PF_OK, i;

    if (!count)
        return resolver_saved() ? PF_OK : PF_NO_RESOLVER;
    for (i = 0; i < count && length < sizeof servers; i++)
        length += (size_t)snprintf(servers + length, sizeof servers - length, "%s %hu\n", addresses[i], ports[i]);
    if (count > PJ_DNS_RESOLVER_MAX_NS || length >= sizeof servers)
        return host_problem(PF_PJSIP_FAILED, PJ_ETOOMANY, "pj_dns_resolver_set_ns()");
    pthread_mutex_lock(&dns.lock);
    found = dns_find_resolver_locked(endpt, servers);
    if (!found)
        result = host_problem(PF_PJSIP_FAILED, PJ_ETOOMANY, "one more DNS resolver of pjsip's");
    else if (!found->resolver || strcmp(found->servers, servers))
        result = dns_set_servers_locked(endpt, found, addresses, ports, count, servers);
    if (result == PF_OK) {
        if (found->handle <= dns.detached_handle)
            found->handle = ++dns.last_handle;
        *handle = found->handle;
    }
    pthread_mutex_unlock(&dns.lock);
    return result;
}

int pf_dns_open(const char *const *addresses, const unsigned short *ports, int count, int *handle)
{
    *handle = 0;
    return host_enter() ? host_leave(dns_open_resolver(addresses, ports, count, handle)) : PF_NO_ENDPOINT;
}

/* Sends a query. Returns a PF_ result. A Python thread inside the gate: a resolver that is found stays. */
static int dns_start_query(int handle, const char *name, int type, unsigned id)
{
    pj_dns_resolver *resolver = NULL;
    pj_str_t text = { (char *)(uintptr_t)name, (pj_ssize_t)strlen(name) };
    pj_status_t status;
    int i;

    pthread_mutex_lock(&dns.lock);
    if (!handle)
        resolver = resolver_saved();
    for (i = 0; i < MAX_RESOLVERS && handle > dns.detached_handle; i++)
        if (dns.resolvers[i].resolver && dns.resolvers[i].handle == handle)
            resolver = dns.resolvers[i].resolver;
    pthread_mutex_unlock(&dns.lock);
    if (!resolver)
        return PF_NO_RESOLVER;
    status = host.pj_dns_resolver_start_query(resolver, &text, type, 0, &dns_on_answer, (void *)(uintptr_t)id, NULL);
    return status == PJ_SUCCESS ? PF_OK : host_problem(PF_PJSIP_FAILED, status, "pj_dns_resolver_start_query()");
}

int pf_dns_ask(int handle, const char *name, int type, unsigned id)
{
    return host_enter() ? host_leave(dns_start_query(handle, name, type, id)) : PF_NO_ENDPOINT;
}

void dns_detach(void)
{
    HOLD_LOCK(&dns.lock);
    dns.detached_handle = dns.last_handle;
}

void dns_close(pjsip_endpoint *endpt)
{
    HOLD_LOCK(&dns.lock);
    int i;

    for (i = 0; i < MAX_RESOLVERS; i++) {
        struct dns_resolver *each = &dns.resolvers[i];

        if (each->resolver && each->endpt == endpt) {
            each->destroy(each->resolver, PJ_FALSE);
            memset(each, 0, sizeof *each);
        }
    }
}
