#include "requests.h"

#include "address.h"
#include "lock.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* More requests than this are sent, but neither watched nor tried at another server. */
enum { MAX_REQUESTS = 65536 };

/* Due times are rounded up to multiples of this many seconds, so that the polling thread is woken less often. */
#define TIMER_GRID_S 0.02

struct requests requests = { .lock = PTHREAD_MUTEX_INITIALIZER };

struct request *request_make(const pj_str_t *method, pjsip_method_e method_id, size_t room, double now)
{
    struct request *request =
        method->slen < (pj_ssize_t)sizeof request->key.method ? calloc(1, sizeof *request + room) : NULL;

    if (!request)
        return NULL;
    request->refs = 1;
    request->account = -1;
    request->key.method_id = method_id;
    memcpy(request->key.method, method->ptr, (size_t)method->slen);
    request->state.invite = method_id == PJSIP_INVITE_METHOD;
    request->state.timeout = INFINITY;
    request->state.max_attempts = MAX_ATTEMPTS;
    failover_start(&request->state, now);
    return request;
}

int requests_under_way(void)
{
    HOLD_LOCK(&requests.lock);
    return requests.table.count != 0;
}

struct request *request_find_locked(uint64_t hash)
{
    struct hash_link *link = hash_table_first(&requests.table, hash);

    return link ? entry_of(link, struct request, link) : NULL;
}

struct request *request_hold(uint64_t hash)
{
    struct request *request;

    pthread_mutex_lock(&requests.lock);
    request = request_find_locked(hash);
    if (request)
        request->refs++;
    pthread_mutex_unlock(&requests.lock);
    return request;
}

static void request_free(struct request *request)
{
    unsigned i;

    for (i = 0; i < request->state.attempt_count; i++)
        if (request->attempts[i].connection)
            host.pjsip_transport_dec_ref(request->attempts[i].connection);
    if (request->held)
        host.pjsip_rx_data_free_cloned(request->held);
    free(request);
}

/* --- attempts by what an event concerns -------------------------------------------------------------------------- */

/* Without memory it is not listed; its server's silence then is the only sign of its connection's end. */
static void request_list_attempt_locked(struct attempt *attempt)
{
    attempt->link.hash = attempt->server.transport == PF_UDP ? attempt->server_hash : hash_pointer(attempt->transport);
    attempt->listed = hash_table_put(&requests.attempts, &attempt->link);
}

void request_unlist_attempt_locked(struct attempt *attempt)
{
    if (attempt->listed)
        hash_table_remove(&requests.attempts, &attempt->link);
    attempt->listed = 0;
}

static struct attempt *request_attempt_of(struct hash_link *link)
{
    return link ? entry_of(link, struct attempt, link) : NULL;
}

struct attempt *request_first_on_connection_locked(const pjsip_transport *transport)
{
    return request_attempt_of(hash_table_first(&requests.attempts, hash_pointer(transport)));
}

struct attempt *request_first_at_server_locked(const pf_address *server)
{
    return request_attempt_of(hash_table_first(&requests.attempts, address_hash(server)));
}

struct attempt *request_next_attempt_locked(const struct attempt *attempt)
{
    return request_attempt_of(hash_table_next(&attempt->link));
}

/* --- the table --------------------------------------------------------------------------------------------------- */

int request_put_locked(struct request *request, uint64_t hash)
{
    unsigned i;

    if (request_find_locked(hash))
        return 0;
    request->link.hash = hash;
    if (requests.table.count >= MAX_REQUESTS || !heap_put(&requests.heap, &request->timer, INFINITY)) {
        atomic_fetch_add(&requests.unwatched, 1);
        return 0;
    }
    if (!hash_table_put(&requests.table, &request->link)) {
        heap_remove(&requests.heap, &request->timer);
        atomic_fetch_add(&requests.unwatched, 1);
        return 0;
    }
    request->listed = 1;
    for (i = 0; i < request->state.attempt_count; i++)
        request_list_attempt_locked(&request->attempts[i]);
    return 1;
}

int request_take_out_locked(struct request *request)
{
    unsigned i;

    if (!request->listed)
        return 0;
    request->listed = 0;
    hash_table_remove(&requests.table, &request->link);
    heap_remove(&requests.heap, &request->timer);
    for (i = 0; i < request->state.attempt_count; i++)
        request_unlist_attempt_locked(&request->attempts[i]);
    return 1;
}

struct request *request_take_any_locked(void)
{
    struct heap_entry *entry = heap_first(&requests.heap);

    if (entry) {
        request_take_out_locked(entry_of(entry, struct request, timer));
        return entry_of(entry, struct request, timer);
    }
    hash_table_clear(&requests.table, NULL);
    hash_table_clear(&requests.attempts, NULL);
    heap_free(&requests.heap);
    return NULL;
}

/* Releases the caller's reference, if release is set; and, if forget is set, takes the request out of the table. */
static void request_drop(struct request *request, int release, int forget)
{
    unsigned left;

    pthread_mutex_lock(&requests.lock);
    if (forget)
        release += request_take_out_locked(request);
    left = request->refs -= (unsigned)release;
    pthread_mutex_unlock(&requests.lock);
    if (!left)
        request_free(request);
}

void request_release(struct request *request) { request_drop(request, 1, 0); }

void request_forget(struct request *request) { request_drop(request, 0, 1); }

void request_finish(struct request *request, int forget) { request_drop(request, 1, forget); }

/* --- what is due ------------------------------------------------------------------------------------------------- */

double request_schedule_locked(struct request *request)
{
    double due = ceil(failover_due(&request->state) / TIMER_GRID_S) * TIMER_GRID_S;

    if (request->listed)
        heap_put(&requests.heap, &request->timer, due);
    return request->listed ? due : INFINITY;
}

void request_schedule_now_locked(struct request *request)
{
    if (request->listed)
        heap_put(&requests.heap, &request->timer, 0);
}

struct request *request_first_due_locked(double *due)
{
    struct heap_entry *entry = heap_first(&requests.heap);

    *due = entry ? entry->due : INFINITY;
    return entry ? entry_of(entry, struct request, timer) : NULL;
}

/* --- attempts ---------------------------------------------------------------------------------------------------- */

unsigned request_candidates_of(const struct request *request, const pf_address *server)
{
    unsigned bits = 0, i;

    for (i = 0; i < request->state.candidate_count; i++)
        if (!memcmp(&request->candidates[i], server, sizeof *server))
            bits |= 1u << i;
    return bits;
}

int request_attempt_at_locked(const struct request *request, const pf_address *server, const pjsip_transport *transport)
{
    int i;

    for (i = (int)request->state.attempt_count - 1; i >= 0; i--)
        if (!memcmp(&request->attempts[i].server, server, sizeof *server) &&
            (!transport || request->attempts[i].transport == transport))
            return i;
    return -1;
}

/* The candidates that do not speak TLS, a bit each. */
static unsigned request_list_plain(const struct request *request)
{
    unsigned bits = 0, i;

    for (i = 0; i < request->state.candidate_count; i++)
        if (request->candidates[i].transport != PF_TLS)
            bits |= 1u << i;
    return bits;
}

int request_add_attempt_locked(struct request *request, const pf_address *server, const struct server_view *view,
                               pjsip_transport *transport, double now)
{
    int index = failover_add_attempt(&request->state, request_attempt_at_locked(request, server, NULL),
                                     request_candidates_of(request, server), view->suspect, now);
    struct attempt *attempt;

    if (index < 0)
        return -1;
    attempt = &request->attempts[index];
    request_unlist_attempt_locked(attempt);
    attempt->request = request;
    attempt->server = *server;
    attempt->server_hash = view->hash;
    attempt->transport = transport;
    request->state.attempts[index].reliable = server->transport != PF_UDP;
    if (server->transport == PF_TLS)
        request->state.barred = request_list_plain(request); /* none leaves TLS */
    /* pjsip_transport_add_ref() takes no lock if there is a reference already. */
    if (request->bytes && !attempt->connection) {
        host.pjsip_transport_add_ref(transport);
        attempt->connection = transport;
    }
    if (request->listed)
        request_list_attempt_locked(attempt);
    return index;
}

pjsip_transport *request_take_connection_locked(struct attempt *attempt)
{
    pjsip_transport *connection = attempt->connection;

    attempt->connection = NULL;
    return connection;
}

pjsip_transport *request_hold_connection_locked(const struct request *request, int attempt)
{
    pjsip_transport *connection = attempt >= 0 ? request->attempts[attempt].connection : NULL;

    if (!connection || connection != request->attempts[attempt].transport)
        return NULL;
    host.pjsip_transport_add_ref(connection);
    return connection;
}

pjsip_transport *request_hold_connection(const struct request *request, int attempt)
{
    HOLD_LOCK(&requests.lock);
    return request_hold_connection_locked(request, attempt);
}

pjsip_transport *request_hold_transport(const struct request *request, const pf_address *server)
{
    HOLD_LOCK(&requests.lock);
    pjsip_transport *transport = NULL;
    unsigned i;

    for (i = 0; i < request->state.attempt_count && !transport; i++) {
        const struct attempt *attempt = &request->attempts[i];

        if (!memcmp(&attempt->server, server, sizeof *server) ||
            (server->transport == PF_UDP && attempt->server.transport == PF_UDP &&
             attempt->server.family == server->family))
            transport = request_hold_connection_locked(request, (int)i);
    }
    return transport;
}

int request_move_transaction(struct request *request, const pf_address *server, pjsip_transport *transport)
{
    if (!transaction_move(&request->key, server, transport))
        return 0;
    pthread_mutex_lock(&requests.lock);
    request->state.reliable |= address_pjsip_type(server) != request->type;
    pthread_mutex_unlock(&requests.lock);
    return 1;
}

int request_attempt_of_response_locked(const struct request *request, const pf_address *source, int *heard)
{
    int index = request_attempt_at_locked(request, source, NULL);

    *heard = 1;
    if (index >= 0)
        return index;
    if (request->state.attempt_count == 1)
        return 0;
    *heard = 0;
    for (index = (int)request->state.attempt_count - 1; index >= 0; index--)
        if (!request->state.attempts[index].ended)
            break;
    return index;
}
