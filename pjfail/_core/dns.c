/*
 * dns.c: questions of the worker's to pjsip's DNS resolver, answers into the queue.
 *
 * A question is asked on the worker. Its answer comes on pjsip's polling thread, or on the worker itself when the
 * resolver has it in its cache; it goes into the queue, whose lock may be taken inside ours.
 */
#include "dns.h"

#include "core.h"
#include "pjfail.h"
#include "queue.h"
#include "resolver.h"
#include "text.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_RESOLVERS = 8 };

/* Guarded by lock, which a detach takes too: no resolver ends while it is being asked. */
static struct {
    pthread_mutex_t lock;
    pj_dns_resolver *resolvers[MOST_RESOLVERS];
    int count;
    int first;                  /* the handle of the first: handles of an earlier attach are never given out again */
} self = { .lock = PTHREAD_MUTEX_INITIALIZER, .first = 1 };

/* Whether the record is of a kind that we know. */
static int copy_record(pf_record *record, const pj_dns_parsed_rr *from)
{
    memset(record, 0, sizeof *record);
    copy_text(record->name, sizeof record->name, &from->name);
    record->type = from->type;
    record->ttl = from->ttl;
    switch (from->type) {
    case PJ_DNS_TYPE_A:
        memcpy(record->ip, &from->rdata.a.ip_addr, 4);
        return 1;
    case PJ_DNS_TYPE_AAAA:
        memcpy(record->ip, &from->rdata.aaaa.ip_addr, 16);
        return 1;
    case PJ_DNS_TYPE_CNAME:
        copy_text(record->target, sizeof record->target, &from->rdata.cname.name);
        return 1;
    case PJ_DNS_TYPE_SRV:
        record->priority = from->rdata.srv.prio;
        record->weight = from->rdata.srv.weight;
        record->port = from->rdata.srv.port;
        copy_text(record->target, sizeof record->target, &from->rdata.srv.target);
        return 1;
    default:
        return 0;
    }
}

/* A pj_dns_callback; the token is the question's number. */
static void on_answer(void *token, pj_status_t status, pj_dns_parsed_packet *packet)
{
    unsigned count = status == PJ_SUCCESS && packet ? packet->hdr.anscount : 0, i;
    pf_dns_answer *answer = calloc(1, sizeof *answer + count * sizeof(pf_record));

    if (!answer)
        return;                 /* the worker's own deadline ends the question */
    answer->id = (unsigned)(uintptr_t)token;
    answer->status = status;
    answer->exists = status != PJ_STATUS_FROM_DNS_RCODE(PJ_DNS_RCODE_NXDOMAIN);
    for (i = 0; i < count; i++)
        answer->count += copy_record(&answer->records[answer->count], &packet->ans[i]);
    queue_put_note(NOTE_DNS_ANSWER, answer);
}

/* --- from Python ------------------------------------------------------------------------------------------------- */

struct opening {
    const char *const *addresses;
    const unsigned short *ports;
    int count;
    int handle;
};

static int open_resolver(pjsip_endpoint *endpt, void *argument)
{
    struct opening *opening = argument;
    pj_str_t servers[PJ_DNS_RESOLVER_MAX_NS];
    pj_uint16_t ports[PJ_DNS_RESOLVER_MAX_NS];
    pj_dns_resolver *resolver;
    pj_status_t status;
    int i, kept;

    if (!opening->count) {
        opening->handle = 0;
        return resolver_set_aside() ? PF_OK : PF_NO_RESOLVER;
    }
    if (opening->count > PJ_DNS_RESOLVER_MAX_NS)
        return host_problem(PF_PJSIP_FAILED, PJ_ETOOMANY, "pj_dns_resolver_set_ns()");
    for (i = 0; i < opening->count; i++) {
        servers[i].ptr = (char *)opening->addresses[i];
        servers[i].slen = (pj_ssize_t)strlen(opening->addresses[i]);
        ports[i] = opening->ports[i];
    }
    status = host.pjsip_endpt_create_resolver(endpt, &resolver);
    if (status != PJ_SUCCESS)
        return host_problem(PF_PJSIP_FAILED, status, "pjsip_endpt_create_resolver()");
    status = host.pj_dns_resolver_set_ns(resolver, (unsigned)opening->count, servers, ports);
    if (status != PJ_SUCCESS) {
        host.pj_dns_resolver_destroy(resolver, PJ_FALSE);
        return host_problem(PF_PJSIP_FAILED, status, "pj_dns_resolver_set_ns()");
    }
    pthread_mutex_lock(&self.lock);
    kept = self.count < MOST_RESOLVERS && core_attached();
    if (kept) {
        opening->handle = self.first + self.count;
        self.resolvers[self.count++] = resolver;
    }
    pthread_mutex_unlock(&self.lock);
    if (kept)
        return PF_OK;
    host.pj_dns_resolver_destroy(resolver, PJ_FALSE);
    return host_problem(PF_PJSIP_FAILED, PJ_ETOOMANY, "one more DNS resolver of pjsip's");
}

int pf_dns_open(const char *const *addresses, const unsigned short *ports, int count, int *handle)
{
    struct opening opening = { addresses, ports, count, 0 };
    int result = core_with_endpoint(&open_resolver, &opening);

    *handle = opening.handle;
    return result;
}

struct asking {
    int handle;
    const char *name;
    int type;
    unsigned id;
};

static int ask(pjsip_endpoint *endpt, void *argument)
{
    const struct asking *asking = argument;
    pj_dns_resolver *resolver = NULL;
    pj_str_t name = { (char *)asking->name, (pj_ssize_t)strlen(asking->name) };
    pj_status_t status = PJ_SUCCESS;

    (void)endpt;
    pthread_mutex_lock(&self.lock);
    if (!asking->handle)
        resolver = resolver_set_aside();
    else if (asking->handle >= self.first && asking->handle < self.first + self.count)
        resolver = self.resolvers[asking->handle - self.first];
    if (resolver)
        status = host.pj_dns_resolver_start_query(resolver, &name, asking->type, 0, &on_answer,
                                                  (void *)(uintptr_t)asking->id, NULL);
    pthread_mutex_unlock(&self.lock);
    if (!resolver)
        return PF_NO_RESOLVER;
    return status == PJ_SUCCESS ? PF_OK : host_problem(PF_PJSIP_FAILED, status, "pj_dns_resolver_start_query()");
}

int pf_dns_ask(int handle, const char *name, int type, unsigned id)
{
    struct asking asking = { handle, name, type, id };

    return core_with_endpoint(&ask, &asking);
}

void dns_close(void)
{
    pthread_mutex_lock(&self.lock);
    self.first += self.count;
    while (self.count)
        host.pj_dns_resolver_destroy(self.resolvers[--self.count], PJ_TRUE);
    pthread_mutex_unlock(&self.lock);
}
