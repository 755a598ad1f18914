#include "plans.h"

#include "questions.h"
#include "queue.h"
#include "roundtrips.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* How long the core's own first aid lasts when Python says nothing: timer F's 32 s. */
#define FIRST_AID 32.0

/* A round trip that was measured so long ago (seconds) says nothing of the next one. */
#define FORGET 60.0

struct server {
    struct link link;
    pf_address address;
    unsigned refs;              /* places in plans */
    unsigned sequence;          /* of its bad outcomes */
    double suspect_until;
    double last_answer;
    double connection_failed;   /* or could not be made, when last; negative: never */
    float rtt, rtt_deviation;
    unsigned answers, silences, refusals, unavailable;
    unsigned good, told;        /* answers without error: all, and those that Python knows of */
    int report_answer;          /* the next answer is news for Python */
    char failed_method[16];     /* so is the next one to this method, whatever was answered before */
};

struct place {
    struct server *server;
    unsigned short tier, group, weight, last_resort;
};

struct plan {
    struct link link;
    double refresh_at, fresh_until;
    double used_at;             /* last */
    int asked;                  /* to be refreshed */
    unsigned short port;
    unsigned char transport, secure, ipv6;
    unsigned short count;       /* of places; those from drawn on only hold their servers */
    unsigned short drawn;
    struct place *places;       /* behind the host in the same block */
    char host[];
};

/* Guarded by lock. */
static struct {
    pthread_mutex_t lock;
    struct table plans, servers;
    uint64_t random;
} self = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* xorshift64*: for spreading load, where nobody gains by guessing. */
static uint64_t next_random(uint64_t *state)
{
    uint64_t x = *state;

    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    *state = x;
    return x * UINT64_C(2685821657736338717);
}

static void seed_random(void)
{
    self.random = (uint64_t)(host_now() * 1e9) ^ (uint64_t)getpid() << 32;
    self.random |= 1;
}

/* --- addresses --------------------------------------------------------------------------------------------------- */

int address_of(pf_address *address, const pj_sockaddr *sockaddr, int pjsip_type)
{
    memset(address, 0, sizeof *address);
    switch (pjsip_type & ~PJSIP_TRANSPORT_IPV6) {
    case PJSIP_TRANSPORT_UDP: address->transport = PF_UDP; break;
    case PJSIP_TRANSPORT_TCP: address->transport = PF_TCP; break;
    case PJSIP_TRANSPORT_TLS: address->transport = PF_TLS; break;
    default: return 0;
    }
    if (sockaddr->addr.sa_family == AF_INET) {
        address->family = 4;
        address->port = ntohs(sockaddr->ipv4.sin_port);
        memcpy(address->ip, &sockaddr->ipv4.sin_addr, 4);
    } else if (sockaddr->addr.sa_family == AF_INET6) {
        address->family = 6;
        address->port = ntohs(sockaddr->ipv6.sin6_port);
        address->scope = sockaddr->ipv6.sin6_scope_id;
        memcpy(address->ip, &sockaddr->ipv6.sin6_addr, 16);
    } else {
        return 0;
    }
    return 1;
}

int address_to_sockaddr(const pf_address *address, pj_sockaddr *sockaddr)
{
    memset(sockaddr, 0, sizeof *sockaddr);
    if (address->family == 4) {
        sockaddr->ipv4.sin_family = AF_INET;
        sockaddr->ipv4.sin_port = htons(address->port);
        memcpy(&sockaddr->ipv4.sin_addr, address->ip, 4);
        return sizeof sockaddr->ipv4;
    }
    sockaddr->ipv6.sin6_family = AF_INET6;
    sockaddr->ipv6.sin6_port = htons(address->port);
    sockaddr->ipv6.sin6_scope_id = address->scope;
    memcpy(&sockaddr->ipv6.sin6_addr, address->ip, 16);
    return sizeof sockaddr->ipv6;
}

int address_pjsip_type(const pf_address *address)
{
    static const int types[] = { PJSIP_TRANSPORT_UNSPECIFIED, PJSIP_TRANSPORT_UDP, PJSIP_TRANSPORT_TCP, PJSIP_TRANSPORT_TLS };

    return types[address->transport & 3] | (address->family == 6 ? PJSIP_TRANSPORT_IPV6 : 0);
}

static uint64_t address_hash(const pf_address *address) { return hash_bytes(HASH_SEED, address, sizeof *address); }

static int same_address(const pf_address *one, const pf_address *other) { return !memcmp(one, other, sizeof *one); }

/* --- servers, under self.lock ------------------------------------------------------------------------------------ */

static struct server *find_server(const pf_address *address)
{
    struct link *link;

    for (link = table_first(&self.servers, address_hash(address)); link; link = table_next(link)) {
        struct server *server = entry_of(link, struct server, link);
        if (same_address(&server->address, address))
            return server;
    }
    return NULL;
}

static struct server *hold_server(const pf_address *address)
{
    struct server *server = find_server(address);

    if (!server) {
        server = calloc(1, sizeof *server);
        if (!server)
            return NULL;
        server->address = *address;
        server->link.hash = address_hash(address);
        server->last_answer = server->connection_failed = server->rtt = -1;
        server->report_answer = 1;
        if (!table_put(&self.servers, &server->link)) {
            free(server);
            return NULL;
        }
    }
    server->refs++;
    return server;
}

static void release_server(struct server *server)
{
    if (--server->refs)
        return;
    table_remove(&self.servers, &server->link);
    free(server);
}

/* --- plans, under self.lock -------------------------------------------------------------------------------------- */

uint64_t target_hash(const pf_target *target)
{
    const unsigned short rest[] = { target->port, target->transport, target->secure, target->ipv6 };

    return hash_bytes(hash_bytes(HASH_SEED, target->host, strlen(target->host)), rest, sizeof rest);
}

static struct plan *find_plan(const pf_target *target, uint64_t hash)
{
    struct link *link;

    for (link = table_first(&self.plans, hash); link; link = table_next(link)) {
        struct plan *plan = entry_of(link, struct plan, link);
        if (plan->port == target->port && plan->transport == target->transport && plan->secure == target->secure &&
            plan->ipv6 == target->ipv6 && !strcmp(plan->host, target->host))
            return plan;
    }
    return NULL;
}

static void free_plan(struct plan *plan)
{
    unsigned i;

    for (i = 0; i < plan->count; i++)
        release_server(plan->places[i].server);
    free(plan);
}

static void drop_plan(struct link *link) { free_plan(entry_of(link, struct plan, link)); }

static struct plan *make_plan(const pf_target *target, const pf_entry *entries, int count, int drawn)
{
    size_t head = offsetof(struct plan, host) + strlen(target->host) + 1;
    struct plan *plan;

    head = (head + sizeof(struct place) - 1) / sizeof(struct place) * sizeof(struct place);
    plan = calloc(1, head + (size_t)count * sizeof(struct place));
    if (!plan)
        return NULL;
    plan->places = (struct place *)(void *)((char *)plan + head);
    plan->port = target->port;
    plan->transport = target->transport;
    plan->secure = target->secure;
    plan->ipv6 = target->ipv6;
    plan->drawn = (unsigned short)drawn;
    strcpy(plan->host, target->host);
    for (; plan->count < count; plan->count++) {
        const pf_entry *entry = &entries[plan->count];
        struct place *place = &plan->places[plan->count];

        place->server = hold_server(&entry->server);
        if (!place->server) {
            free_plan(plan);
            return NULL;
        }
        place->tier = entry->tier;
        place->group = entry->group;
        place->weight = entry->weight;
        place->last_resort = entry->last_resort != 0;
    }
    return plan;
}

/* --- order of one use, under self.lock --------------------------------------------------------------------------- */

/* A run of places of one tier and group. */
struct group {
    unsigned short first, length, weight;
};

/* RFC 2782: takes one of the groups, by weight; those of weight 0 have a small chance. */
static unsigned draw_group(const struct group *groups, unsigned count, uint64_t *random)
{
    unsigned total = 0, idle = 0, i, threshold;

    for (i = 0; i < count; i++) {
        total += groups[i].weight;
        idle += !groups[i].weight;
    }
    /* Without an idle one a draw from 1 keeps the weights exact; the RFC's draw from 0 favours the first. */
    threshold = idle ? (unsigned)(next_random(random) % (total + 1u)) : 1u + (unsigned)(next_random(random) % total);
    if (!threshold) {
        unsigned chosen = (unsigned)(next_random(random) % idle);
        for (i = 0;; i++)
            if (!groups[i].weight && !chosen--)
                return i;
    }
    for (i = 0; i < count; i++) {
        if (threshold <= groups[i].weight && groups[i].weight)
            return i;
        threshold -= groups[i].weight;
    }
    return count - 1;
}

/* Writes the places in the order of this use: tiers, weights within a tier, the asker's own server first in its tier. */
static unsigned draw_places(const struct plan *plan, const struct server *own, uint64_t *random,
                            const struct place **order)
{
    struct group groups[PF_MAX_ENTRIES];
    unsigned at = 0, written = 0;

    while (at < plan->drawn) {
        unsigned short tier = plan->places[at].tier;
        unsigned count = 0, i;

        for (; at < plan->drawn && plan->places[at].tier == tier; at++) {
            if (!count || plan->places[at].group != plan->places[at - 1].group) {
                groups[count].first = (unsigned short)at;
                groups[count].length = 0;
                groups[count++].weight = plan->places[at].weight;
            }
            groups[count - 1].length++;
            if (own && plan->places[at].server == own)
                order[written++] = &plan->places[at];
        }
        while (count) {
            unsigned chosen = count > 1 ? draw_group(groups, count, random) : 0;
            for (i = 0; i < groups[chosen].length; i++) {
                const struct place *place = &plan->places[groups[chosen].first + i];
                if (!own || place->server != own)
                    order[written++] = place;
            }
            groups[chosen] = groups[--count];
        }
    }
    return written;
}

/* 0: well. 1: suspect. 2: a last resort. 3: one that has failed again. */
enum { RANKS = 4 };

static int rank_of(const struct place *place, double now)
{
    return 2 * place->last_resort + (place->server->suspect_until > now);
}

/* The order of this use, whom the core suspects behind those that are well; the plan stays a permutation. */
static unsigned order_plan(const struct plan *plan, const struct asker *asker, double now, uint64_t *random,
                           const struct place **order)
{
    const struct server *own = asker && asker->server.family ? find_server(&asker->server) : NULL;
    const struct place *drawn[PF_MAX_ENTRIES];
    unsigned count = draw_places(plan, own, random, drawn), written = 0, i;
    int rank;

    if (own && (asker->bound || (asker->follows && own->suspect_until <= now)))
        for (i = 0; i < count; i++)
            if (drawn[i]->server == own)
                order[written++] = drawn[i];
    if (!written)
        own = NULL;
    for (rank = 0; rank < RANKS; rank++)
        for (i = 0; i < count; i++)
            if (drawn[i]->server != own && rank_of(drawn[i], now) == rank)
                order[written++] = drawn[i];
    return written;
}

/* Under self.lock. This use's order of the plan, as pjsip wants it. */
static void write_answer(const struct plan *plan, const struct asker *asker, double now, const pj_str_t *name,
                         answer *answer)
{
    const struct place *order[PF_MAX_ENTRIES];
    unsigned limit = answer_limit(), count, i;

    if (!self.random)
        seed_random();
    count = order_plan(plan, asker, now, &self.random, order);
    /* A large UDP request has its list doubled with TCP copies: leave room, or the tail is cut. */
    if (order[0]->server->address.transport == PF_UDP)
        limit /= 2;
    if (count > limit)
        count = limit;
    for (i = 0; i < count; i++) {
        const pf_address *address = &order[i]->server->address;
        pj_sockaddr sockaddr;
        int length = address_to_sockaddr(address, &sockaddr);

        answer_set(answer, i, name, address_pjsip_type(address), &sockaddr, length,
                   order[i]->tier + (order[i]->last_resort ? LAST_RESORT : 0), order[i]->weight);
    }
    answer_set_count(answer, count);
}

enum plan_found plans_answer(const pf_target *target, uint64_t hash, const struct asker *asker, const pj_str_t *name,
                             int stale, answer *answer, int *refresh)
{
    enum plan_found found = PLAN_NONE;
    double now = host_now();
    struct plan *plan;

    *refresh = 0;
    pthread_mutex_lock(&self.lock);
    plan = find_plan(target, hash);
    if (plan)
        found = plan->fresh_until > now ? PLAN_FRESH : PLAN_STALE;
    if (found == PLAN_FRESH || (found == PLAN_STALE && stale)) {
        write_answer(plan, asker, now, name, answer);
        plan->used_at = now;
        if (found == PLAN_FRESH && plan->refresh_at <= now && !plan->asked)
            *refresh = plan->asked = 1;
    }
    pthread_mutex_unlock(&self.lock);
    return found;
}

struct plan *plans_make(const pf_target *target, const pf_entry *entries, int count)
{
    struct plan *plan;

    if (count < 1 || count > PF_MAX_ENTRIES)
        return NULL;
    pthread_mutex_lock(&self.lock);
    plan = find_plan(target, target_hash(target));
    if (plan)
        plan->used_at = host_now();
    plan = make_plan(target, entries, count, count);
    pthread_mutex_unlock(&self.lock);
    return plan;
}

void plans_answer_by(const struct plan *plan, const struct asker *asker, const pj_str_t *name, answer *answer)
{
    pthread_mutex_lock(&self.lock);
    write_answer(plan, asker, host_now(), name, answer);
    pthread_mutex_unlock(&self.lock);
}

void plans_drop(struct plan *plan)
{
    if (!plan)
        return;
    pthread_mutex_lock(&self.lock);
    free_plan(plan);
    pthread_mutex_unlock(&self.lock);
}

int plans_have(const pf_target *target, uint64_t hash)
{
    int have;

    pthread_mutex_lock(&self.lock);
    have = find_plan(target, hash) != NULL;
    pthread_mutex_unlock(&self.lock);
    return have;
}

/* --- what was seen of a server ----------------------------------------------------------------------------------- */

int plans_know(const pf_address *server)
{
    int known;

    pthread_mutex_lock(&self.lock);
    known = find_server(server) != NULL;
    pthread_mutex_unlock(&self.lock);
    return known;
}

int plans_hold(const pf_address *address)
{
    int held;

    if (!address->family)
        return 1;
    pthread_mutex_lock(&self.lock);
    held = hold_server(address) != NULL;
    pthread_mutex_unlock(&self.lock);
    return held;
}

void plans_release(const pf_address *address)
{
    struct server *server;

    pthread_mutex_lock(&self.lock);
    server = find_server(address);
    if (server)
        release_server(server);
    pthread_mutex_unlock(&self.lock);
}

/* RFC 6298 section 2, with its alpha and beta; what has not been measured for long is measured anew. */
static void measure(struct server *server, double rtt, double now)
{
    if (server->rtt < 0 || now - server->last_answer > FORGET) {
        server->rtt = (float)rtt;
        server->rtt_deviation = (float)(rtt / 2);
    } else {
        double off = server->rtt - rtt;
        server->rtt_deviation = (float)(0.75 * server->rtt_deviation + 0.25 * (off < 0 ? -off : off));
        server->rtt = (float)(0.875 * server->rtt + 0.125 * rtt);
    }
}

/* Under self.lock. What every outcome says. */
static void fill_outcome(struct server *server, pf_outcome *outcome)
{
    outcome->server = server->address;
    outcome->rtt = server->rtt;
    outcome->answers = server->good - server->told;
    server->told = server->good;
}

/* Under self.lock. A bad outcome: the next answer is news, and the next one to its method. */
static void fill_failure(struct server *server, pf_outcome *outcome)
{
    fill_outcome(server, outcome);
    outcome->sequence = ++server->sequence;
    server->report_answer = 1;
    if (outcome->method[0])
        memcpy(server->failed_method, outcome->method, sizeof server->failed_method);
}

void plans_note_answer(const pf_address *address, const char *method, int code, int error, double rtt)
{
    pf_outcome outcome;
    struct server *server;
    int news = 0;

    memset(&outcome, 0, sizeof outcome);
    pthread_mutex_lock(&self.lock);
    server = find_server(address);
    if (server) {
        int failed_before = !strncmp(server->failed_method, method, sizeof server->failed_method - 1);
        double now = host_now();

        if (rtt >= 0)
            measure(server, rtt, now);
        server->answers++;
        server->last_answer = now;
        server->suspect_until = 0;
        news = error || server->report_answer || failed_before;
        outcome.code = code;
        outcome.retry_after = -1;
        outcome.at = outcome.began = server->last_answer;
        strncpy(outcome.method, method, sizeof outcome.method - 1);
        if (error) {
            outcome.seen = PF_SERVER_ERROR;
            fill_failure(server, &outcome);
        } else {
            server->good += code >= 200;
            outcome.seen = PF_ANSWERED;
            outcome.sequence = server->sequence;
            if (news)
                fill_outcome(server, &outcome);
            if (code >= 200) {          /* a provisional shows that it lives, the final is news still */
                server->report_answer = 0;
                if (failed_before)
                    server->failed_method[0] = '\0';
            }
        }
    }
    pthread_mutex_unlock(&self.lock);
    if (server && rtt >= 0)
        round_trips_note(address->transport, rtt);
    if (news)
        queue_put_outcome(&outcome);
}

void plans_note_failure(const pf_address *address, pf_outcome *outcome)
{
    struct server *server;

    outcome->server = *address;
    outcome->at = host_now();
    if (!outcome->began)
        outcome->began = outcome->at;
    pthread_mutex_lock(&self.lock);
    server = find_server(address);
    if (server) {
        /* A certificate, or a 503 from further downstream, tells nothing of the server itself. */
        if (outcome->seen != PF_CERTIFICATE && !outcome->after_provisional)
            server->suspect_until = outcome->at + FIRST_AID;
        if (outcome->seen == PF_REFUSED || outcome->seen == PF_DISCONNECTED)
            server->connection_failed = outcome->at;
        fill_failure(server, outcome);
        switch (outcome->seen) {
        case PF_SILENT: server->silences++; break;
        case PF_UNAVAILABLE: server->unavailable++; break;
        default: server->refusals++;
        }
    }
    pthread_mutex_unlock(&self.lock);
    if (server)
        queue_put_outcome(outcome);
}

void plans_suspect(const pf_address *address)
{
    struct server *server;

    pthread_mutex_lock(&self.lock);
    server = find_server(address);
    if (server) {
        server->suspect_until = host_now() + FIRST_AID;
        server->report_answer = 1;
        server->sequence++;     /* what Python has judged so far does not lift it */
    }
    pthread_mutex_unlock(&self.lock);
}

void pf_suspect(const pf_address *address) { plans_suspect(address); }

void plans_clear_of_suspicion(const pf_address *address)
{
    struct server *server;

    pthread_mutex_lock(&self.lock);
    server = find_server(address);
    if (server)
        server->suspect_until = 0;
    pthread_mutex_unlock(&self.lock);
}

int plans_is_suspect(const pf_address *address)
{
    struct server *server;
    int suspect;

    pthread_mutex_lock(&self.lock);
    server = find_server(address);
    suspect = server && server->suspect_until > host_now();
    pthread_mutex_unlock(&self.lock);
    return suspect;
}

int plans_failed_within(const pf_address *address, double seconds)
{
    struct server *server;
    int failed;

    pthread_mutex_lock(&self.lock);
    server = find_server(address);
    failed = server && server->connection_failed >= 0 && server->connection_failed > host_now() - seconds;
    pthread_mutex_unlock(&self.lock);
    return failed;
}

double plans_overdue(const pf_address *address)
{
    struct server *server;
    double overdue = -1;

    pthread_mutex_lock(&self.lock);
    server = find_server(address);
    if (server && server->rtt >= 0)
        overdue = server->rtt + 4 * server->rtt_deviation;
    pthread_mutex_unlock(&self.lock);
    return overdue;
}

int plans_is_well(const pf_address *address, double seconds)
{
    double now = host_now();
    struct server *server;
    int well;

    pthread_mutex_lock(&self.lock);
    server = find_server(address);
    well = server && server->suspect_until <= now && server->last_answer >= 0 && server->last_answer > now - seconds;
    pthread_mutex_unlock(&self.lock);
    return well;
}

void plans_count(unsigned long long *plans, unsigned long long *servers)
{
    pthread_mutex_lock(&self.lock);
    *plans = self.plans.count;
    *servers = self.servers.count;
    pthread_mutex_unlock(&self.lock);
}

void plans_clear(void)
{
    pthread_mutex_lock(&self.lock);
    table_clear(&self.plans, &drop_plan);
    pthread_mutex_unlock(&self.lock);
}

/* --- from Python ------------------------------------------------------------------------------------------------- */

int pf_publish(const pf_target *target, const pf_entry *entries, int count, int drawn, double refresh_at,
               double fresh_until)
{
    struct plan *plan, *old;
    uint64_t hash = target_hash(target);
    int done = 0;

    if (drawn < 1 || drawn > count || count > PF_MAX_ENTRIES)
        return 0;
    pthread_mutex_lock(&self.lock);
    plan = make_plan(target, entries, count, drawn);
    if (plan) {
        plan->link.hash = hash;
        plan->refresh_at = refresh_at;
        plan->fresh_until = fresh_until;
        old = find_plan(target, hash);
        plan->used_at = old ? old->used_at : host_now();
        if (old)
            table_remove(&self.plans, &old->link);
        done = table_put(&self.plans, &plan->link);
        if (!done)
            free_plan(plan);
        if (old)
            free_plan(old);
    }
    pthread_mutex_unlock(&self.lock);
    if (done)
        questions_end(target, 0, ANSWER_PLAN);
    else
        questions_end(target, 0, ANSWER_SYSTEM);
    return done;
}

void pf_fail(const pf_target *target, unsigned id, int stale)
{
    questions_end(target, id, stale ? ANSWER_STALE : ANSWER_ERROR);
}

void pf_pass(const pf_target *target, unsigned id) { questions_end(target, id, ANSWER_SYSTEM); }

void pf_forget(const pf_target *target)
{
    struct plan *plan;

    pthread_mutex_lock(&self.lock);
    plan = find_plan(target, target_hash(target));
    if (plan) {
        table_remove(&self.plans, &plan->link);
        free_plan(plan);
    }
    pthread_mutex_unlock(&self.lock);
}

void pf_forgive(const pf_address *address, unsigned sequence)
{
    struct server *server;

    pthread_mutex_lock(&self.lock);
    server = find_server(address);
    if (server && server->sequence == sequence)
        server->suspect_until = 0;
    pthread_mutex_unlock(&self.lock);
}

int pf_read_stats(const pf_address *address, pf_stats *stats)
{
    struct server *server;

    memset(stats, 0, sizeof *stats);
    pthread_mutex_lock(&self.lock);
    server = find_server(address);
    if (server) {
        stats->server = *address;
        stats->last_answer = server->last_answer;
        stats->rtt = server->rtt;
        stats->rtt_deviation = server->rtt_deviation;
        stats->answers = server->answers;
        stats->silences = server->silences;
        stats->refusals = server->refusals;
        stats->unavailable = server->unavailable;
        stats->suspect = server->suspect_until > host_now();
    }
    pthread_mutex_unlock(&self.lock);
    return server != NULL;
}

double pf_used_at(const pf_target *target)
{
    struct plan *plan;
    double used_at;

    pthread_mutex_lock(&self.lock);
    plan = find_plan(target, target_hash(target));
    used_at = plan ? plan->used_at : -1;
    pthread_mutex_unlock(&self.lock);
    return used_at;
}

int pf_draw(const pf_target *target, unsigned long long seed, pf_address *servers, int size)
{
    const struct place *order[PF_MAX_ENTRIES];
    uint64_t random = (uint64_t)seed * 2 + 1;
    struct plan *plan;
    int count = 0, i;

    next_random(&random);
    pthread_mutex_lock(&self.lock);
    plan = find_plan(target, target_hash(target));
    if (plan)
        count = (int)order_plan(plan, NULL, host_now(), &random, order);
    if (count > size)
        count = size;
    for (i = 0; i < count; i++)
        servers[i] = order[i]->server->address;
    pthread_mutex_unlock(&self.lock);
    return count;
}
