#include "plans.h"

#include "address.h"
#include "clock.h"
#include "hash_table.h"
#include "lock.h"
#include "servers.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct plan_entry {
    struct server *server;
    unsigned short tier, group, weight, last_resort;
};

struct plan {
    struct hash_link link;
    double refresh_at, fresh_until;
    double used_at; /* when it was last used */
    int refreshing; /* a refresh has been asked for */
    unsigned short port;
    unsigned char transport, secure, ipv6;
    unsigned short count; /* of entries; those from index drawn on only keep their servers watched */
    unsigned short drawn;
    struct plan_entry *entries; /* after the host, in the same block */
    char host[];
};

/* A host that is an address, and that plans answer for all the same. */
struct numeric_host {
    struct hash_link link;
    pf_address at; /* without a transport; port 0: where none is named */
};

/* Guarded by servers.lock; numeric_count is read without it. */
static struct {
    struct hash_table table;
    struct hash_table numeric;
    atomic_uint numeric_count;
    uint64_t random;
} plans;

/* Returns the next number of xorshift64*, which spreads load, where nobody gains by guessing. */
static uint64_t plans_next_random(uint64_t *state)
{
    uint64_t x = *state;

    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    *state = x;
    return x * UINT64_C(2685821657736338717);
}

static void plans_seed_random(void)
{
    plans.random = (uint64_t)(clock_now() * 1e9) ^ (uint64_t)getpid() << 32;
    plans.random |= 1;
}

/* --- plans, under servers.lock -------------------------------------------------------------------------------------- */

static struct plan *plans_find_locked(const pf_target *target, uint64_t hash)
{
    struct hash_link *link;

    for (link = hash_table_first(&plans.table, hash); link; link = hash_table_next(link)) {
        struct plan *plan = entry_of(link, struct plan, link);
        if (plan->port == target->port && plan->transport == target->transport && plan->secure == target->secure &&
            plan->ipv6 == target->ipv6 && !strcmp(plan->host, target->host))
            return plan;
    }
    return NULL;
}

static void plans_free_locked(struct plan *plan)
{
    unsigned i;

    for (i = 0; i < plan->count; i++)
        servers_release_locked(plan->entries[i].server);
    free(plan);
}

static void plans_drop_link_locked(struct hash_link *link) { plans_free_locked(entry_of(link, struct plan, link)); }

static struct plan *plans_make_locked(const pf_target *target, const pf_entry *entries, int count, int drawn)
{
    size_t head = offsetof(struct plan, host) + strlen(target->host) + 1;
    struct plan *plan;

    head = (head + sizeof(struct plan_entry) - 1) / sizeof(struct plan_entry) * sizeof(struct plan_entry);
    plan = calloc(1, head + (size_t)count * sizeof(struct plan_entry));
    if (!plan)
        return NULL;
    plan->entries = (struct plan_entry *)(void *)((char *)plan + head);
    plan->port = target->port;
    plan->transport = target->transport;
    plan->secure = target->secure;
    plan->ipv6 = target->ipv6;
    plan->drawn = (unsigned short)drawn;
    strcpy(plan->host, target->host);
    for (; plan->count < count; plan->count++) {
        const pf_entry *entry = &entries[plan->count];
        struct plan_entry *plan_entry = &plan->entries[plan->count];

        plan_entry->server = servers_hold_locked(&entry->server);
        if (!plan_entry->server) {
            plans_free_locked(plan);
            return NULL;
        }
        plan_entry->tier = entry->tier;
        plan_entry->group = entry->group;
        plan_entry->weight = entry->weight;
        plan_entry->last_resort = entry->last_resort != 0;
    }
    return plan;
}

/* --- order of one use, under servers.lock --------------------------------------------------------------------------- */

/* The entries of one tier and group, which are adjacent. */
struct group {
    unsigned short first, length, weight;
};

/* Takes one of the groups, by weight, as RFC 2782 says; those of weight 0 have a small chance. */
static unsigned plans_draw_group(const struct group *groups, unsigned count, uint64_t *random)
{
    unsigned total = 0, idle = 0, i, threshold;

    for (i = 0; i < count; i++) {
        total += groups[i].weight;
        idle += !groups[i].weight;
    }
    /* If no group has weight 0, a draw from 1 keeps the weights exact; the RFC's draw from 0 would favour the first. */
    threshold = idle ? (unsigned)(plans_next_random(random) % (total + 1u))
                     : 1u + (unsigned)(plans_next_random(random) % total);
    if (!threshold) {
        unsigned chosen = (unsigned)(plans_next_random(random) % idle);
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

/*
 * Writes the entries in the order of this use: by tier, by weight within a tier, the request's own server first in its
 * tier.
 */
static unsigned plans_draw_entries_locked(const struct plan *plan, const struct server *own, uint64_t *random,
                                          const struct plan_entry **order)
{
    struct group groups[PF_MAX_ENTRIES];
    unsigned at = 0, written = 0;

    while (at < plan->drawn) {
        unsigned short tier = plan->entries[at].tier;
        unsigned count = 0, i;

        for (; at < plan->drawn && plan->entries[at].tier == tier; at++) {
            if (!count || plan->entries[at].group != plan->entries[at - 1].group) {
                groups[count].first = (unsigned short)at;
                groups[count].length = 0;
                groups[count++].weight = plan->entries[at].weight;
            }
            groups[count - 1].length++;
            if (own && plan->entries[at].server == own)
                order[written++] = &plan->entries[at];
        }
        while (count) {
            unsigned chosen = count > 1 ? plans_draw_group(groups, count, random) : 0;
            for (i = 0; i < groups[chosen].length; i++) {
                const struct plan_entry *plan_entry = &plan->entries[groups[chosen].first + i];
                if (!own || plan_entry->server != own)
                    order[written++] = plan_entry;
            }
            groups[chosen] = groups[--count];
        }
    }
    return written;
}

/* 0: healthy. 1: suspect. 2: a last resort. 3: a last resort that has failed again. */
enum { RANKS = 4 };

static int plans_rank_of_locked(const struct plan_entry *plan_entry, double now)
{
    return 2 * plan_entry->last_resort + (plan_entry->server->suspect_until > now);
}

/* Returns whether that entry comes first as the request's own; a dialog that may move leaves a server that has failed. */
static int plans_is_first_locked(const struct plan_entry *own, const struct request_info *info, double now)
{
    if (info->bound)
        return !info->may_move || !plans_rank_of_locked(own, now);
    return info->follows && own->server->suspect_until <= now;
}

/* Orders the servers for one request: suspect servers come behind the healthy ones; none added, none dropped. */
static unsigned plans_order_locked(const struct plan *plan, const struct request_info *info, double now,
                                   uint64_t *random, const struct plan_entry **order)
{
    const struct server *own = info && info->server.family ? servers_find_locked(&info->server) : NULL;
    const struct plan_entry *drawn[PF_MAX_ENTRIES];
    unsigned count = plans_draw_entries_locked(plan, own, random, drawn), written = 0, i;
    int rank;

    for (i = 0; own && i < count; i++)
        if (drawn[i]->server == own && plans_is_first_locked(drawn[i], info, now))
            order[written++] = drawn[i];
    if (!written)
        own = NULL;
    for (rank = 0; rank < RANKS; rank++)
        for (i = 0; i < count; i++)
            if (drawn[i]->server != own && plans_rank_of_locked(drawn[i], now) == rank)
                order[written++] = drawn[i];
    return written;
}

/* Returns whether the server is among these. */
static int plans_has_address(const struct plan_entry **order, unsigned count, const pf_address *address)
{
    unsigned i;

    for (i = 0; i < count; i++)
        if (address_equals(&order[i]->server->address, address))
            return 1;
    return 0;
}

/* Appends the server, unless there is no room. extra: to its priority. */
static void plans_append(server_addresses *addresses, const struct plan_entry *plan_entry, const pf_address *address,
                         const pj_str_t *name, unsigned extra)
{
    unsigned at = addresses_count(&addresses->addresses);
    pj_sockaddr sockaddr;
    int length = address_to_sockaddr(address, &sockaddr);

    if (at >= addresses_limit())
        return;
    addresses_set(addresses, at, name, address_pjsip_type(address), &sockaddr, length,
                  plan_entry->tier + (plan_entry->last_resort ? LAST_RESORT : 0) + extra, plan_entry->weight);
    addresses_set_count(addresses, at + 1);
}

/*
 * Appends TCP copies of the UDP servers, as pjsip would once it has the answer (stateless_send_resolver_callback()), in an order
 * that connections can be tried in, and the UDP servers behind them. A TCP server of the plan is there already. A server whose TCP has
 * not answered lately gets no copy.
 */
static void plans_append_large_locked(const struct plan_entry **order, unsigned count, double now, const pj_str_t *name,
                                      server_addresses *addresses)
{
    unsigned i;

    for (i = 0; i < count; i++) {
        pf_address address = order[i]->server->address;

        if (address.transport == PF_UDP) {
            address.transport = PF_TCP;
            if (plans_has_address(order, count, &address) || servers_copy_rests_locked(order[i]->server, now))
                continue;
        }
        plans_append(addresses, order[i], &address, name, 0);
    }
    for (i = 0; i < count; i++)
        if (order[i]->server->address.transport == PF_UDP)
            plans_append(addresses, order[i], &order[i]->server->address, name, TOO_LARGE);
    addresses_keep_udp(addresses);
}

/*
 * Puts the servers of the family first that the account prefers, for pjsip is going to. Of these it leaves out all, unless one is as
 * good as the first of the plan; else those that are suspect or of last resort. With all servers bad none is left out.
 */
static unsigned plans_prefer_family_locked(const struct plan_entry **order, unsigned count,
                                           const struct request_info *info, double now)
{
    const int own = (info->bound || info->follows) && address_equals(&order[0]->server->address, &info->server);
    int leads = order[0]->server->address.family == info->prefers;
    const struct plan_entry *others[PF_MAX_ENTRIES];
    unsigned left = 0, other = 0, i;

    if (!own && plans_rank_of_locked(order[0], now) > 0)
        return count;
    for (i = 1; i < count && !own && !leads; i++)
        leads = order[i]->server->address.family == info->prefers && order[i]->tier == order[0]->tier &&
                plans_rank_of_locked(order[i], now) == 0;
    for (i = 0; i < count; i++)
        if (order[i]->server->address.family != info->prefers)
            others[other++] = order[i];
        else if (leads && (!i || plans_rank_of_locked(order[i], now) == 0))
            order[left++] = order[i];
    memcpy(order + left, others, other * sizeof *others);
    return left + other;
}

/* Writes the order of this use as pjsip takes it. */
static void plans_write_locked(const struct plan *plan, const struct request_info *info, double now,
                               const pj_str_t *name, server_addresses *addresses)
{
    const struct plan_entry *order[PF_MAX_ENTRIES];
    unsigned limit = addresses_limit(), count, i;

    if (!plans.random)
        plans_seed_random();
    count = plans_order_locked(plan, info, now, &plans.random, order);
    if (info && info->prefers)
        count = plans_prefer_family_locked(order, count, info, now);
    /* pjsip doubles the list of a large UDP request with TCP copies: leave room, or it cuts off the tail. */
    if (order[0]->server->address.transport == PF_UDP)
        limit /= 2;
    if (count > limit)
        count = limit;
    addresses_set_count(addresses, 0);
    if (info && info->large && order[0]->server->address.transport == PF_UDP)
        plans_append_large_locked(order, count, now, name, addresses);
    else
        for (i = 0; i < count; i++)
            plans_append(addresses, order[i], &order[i]->server->address, name, 0);
}

enum plan_found plans_answer(const pf_target *target, uint64_t hash, const struct request_info *info,
                             const pj_str_t *name, int stale, server_addresses *addresses, int *refresh)
{
    enum plan_found found = PLAN_NONE;
    double now = clock_now();
    struct plan *plan;

    *refresh = 0;
    pthread_mutex_lock(&servers.lock);
    plan = plans_find_locked(target, hash);
    if (plan)
        found = plan->fresh_until > now ? PLAN_FRESH : PLAN_STALE;
    if (found == PLAN_FRESH || (found == PLAN_STALE && stale)) {
        plans_write_locked(plan, info, now, name, addresses);
        plan->used_at = now;
        if (found == PLAN_FRESH && plan->refresh_at <= now && !plan->refreshing)
            *refresh = plan->refreshing = 1;
    }
    pthread_mutex_unlock(&servers.lock);
    return found;
}

struct plan *plans_make(const pf_target *target, const pf_entry *entries, int count)
{
    struct plan *plan;

    if (count < 1 || count > PF_MAX_ENTRIES)
        return NULL;
    pthread_mutex_lock(&servers.lock);
    plan = plans_find_locked(target, target_hash(target));
    if (plan)
        plan->used_at = clock_now();
    plan = plans_make_locked(target, entries, count, count);
    pthread_mutex_unlock(&servers.lock);
    return plan;
}

void plans_answer_by(const struct plan *plan, const struct request_info *info, const pj_str_t *name,
                     server_addresses *addresses)
{
    HOLD_LOCK(&servers.lock);
    plans_write_locked(plan, info, clock_now(), name, addresses);
}

void plans_drop(struct plan *plan)
{
    if (!plan)
        return;
    pthread_mutex_lock(&servers.lock);
    plans_free_locked(plan);
    pthread_mutex_unlock(&servers.lock);
}

int plans_have(const pf_target *target, uint64_t hash)
{
    HOLD_LOCK(&servers.lock);
    return plans_find_locked(target, hash) != NULL;
}

unsigned long long plans_count(void)
{
    HOLD_LOCK(&servers.lock);
    unsigned long long count = plans.table.count;

    return count;
}

/* --- hosts that are addresses ---------------------------------------------------------------------------------- */

static struct numeric_host *plans_find_numeric_locked(const pf_address *at, uint64_t hash)
{
    struct hash_link *link;

    for (link = hash_table_first(&plans.numeric, hash); link; link = hash_table_next(link)) {
        struct numeric_host *numeric = entry_of(link, struct numeric_host, link);
        if (address_equals(&numeric->at, at))
            return numeric;
    }
    return NULL;
}

int plans_answer_for(const pf_address *at)
{
    if (!atomic_load_explicit(&plans.numeric_count, memory_order_acquire))
        return 0;
    HOLD_LOCK(&servers.lock);
    return plans_find_numeric_locked(at, address_hash(at)) != NULL;
}

static void plans_drop_numeric(struct hash_link *link) { free(entry_of(link, struct numeric_host, link)); }

int pf_answer_for(const pf_address *hosts, int count)
{
    HOLD_LOCK(&servers.lock);
    int i, done = 1;

    hash_table_clear(&plans.numeric, &plans_drop_numeric);
    for (i = 0; i < count && done; i++) {
        struct numeric_host *numeric = calloc(1, sizeof *numeric);

        done = numeric != NULL;
        if (!done)
            break;
        numeric->at = hosts[i];
        numeric->link.hash = address_hash(&hosts[i]);
        done = hash_table_put(&plans.numeric, &numeric->link);
        if (!done)
            free(numeric);
    }
    atomic_store(&plans.numeric_count, (unsigned)plans.numeric.count);
    return done;
}

void plans_clear(void)
{
    HOLD_LOCK(&servers.lock);
    hash_table_clear(&plans.table, &plans_drop_link_locked);
    hash_table_clear(&plans.numeric, &plans_drop_numeric);
    atomic_store(&plans.numeric_count, 0);
}

/* --- from Python ------------------------------------------------------------------------------------------------- */

int plans_publish(const pf_target *target, const pf_entry *entries, int count, int drawn, double refresh_at,
                  double fresh_until)
{
    struct plan *plan, *old;
    uint64_t hash = target_hash(target);
    int done = 0;

    if (drawn < 1 || drawn > count || count > PF_MAX_ENTRIES)
        return -1;
    pthread_mutex_lock(&servers.lock);
    plan = plans_make_locked(target, entries, count, drawn);
    if (plan) {
        plan->link.hash = hash;
        plan->refresh_at = refresh_at;
        plan->fresh_until = fresh_until;
        old = plans_find_locked(target, hash);
        plan->used_at = old ? old->used_at : clock_now();
        if (old)
            hash_table_remove(&plans.table, &old->link);
        done = hash_table_put(&plans.table, &plan->link);
        if (!done)
            plans_free_locked(plan);
        if (old)
            plans_free_locked(old);
    }
    pthread_mutex_unlock(&servers.lock);
    return done;
}

void pf_forget(const pf_target *target)
{
    HOLD_LOCK(&servers.lock);
    struct plan *plan = plans_find_locked(target, target_hash(target));

    if (plan) {
        hash_table_remove(&plans.table, &plan->link);
        plans_free_locked(plan);
    }
}

double pf_used_at(const pf_target *target)
{
    HOLD_LOCK(&servers.lock);
    struct plan *plan = plans_find_locked(target, target_hash(target));
    double used_at;

    used_at = plan ? plan->used_at : -1;
    return used_at;
}

int pf_draw(const pf_target *target, unsigned long long seed, pf_address *drawn, int size)
{
    const struct plan_entry *order[PF_MAX_ENTRIES];
    uint64_t random = (uint64_t)seed * 2 + 1;
    struct plan *plan;
    int count = 0, i;

    plans_next_random(&random);
    pthread_mutex_lock(&servers.lock);
    plan = plans_find_locked(target, target_hash(target));
    if (plan)
        count = (int)plans_order_locked(plan, NULL, clock_now(), &random, order);
    if (count > size)
        count = size;
    for (i = 0; i < count; i++)
        drawn[i] = order[i]->server->address;
    pthread_mutex_unlock(&servers.lock);
    return count;
}
