/*
 * requests.h: the one table of the requests under way: which servers have each, and which could; what is due, and when.
 *
 * A request is held (refs) by the table and by whoever works with it without the lock. What stands above the line in it is
 * guarded by requests.lock, the rest never changes. The locks of servers.c and connections.c may be taken inside requests.lock; nothing of
 * pjsip's is.
 */
#ifndef PJFAIL_REQUESTS_H
#define PJFAIL_REQUESTS_H

#include "failover_decide.h"
#include "heap.h"
#include "layout.h"
#include "pjfail.h"
#include "transaction.h"
#include "hash_table.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

/* One request at one server, beside its attempt_state. In the list of those on its connection or, over UDP, at its server. */
struct attempt {
    struct request *request;
    struct attempt *next, **place;      /* place: the pointer that points here; NULL: in no list */
    struct attempt_list *list;
    pf_address server;
    const pjsip_transport *transport;   /* compared, never followed */
};

struct request {
    struct hash_link link;                   /* by transaction_hash() */
    struct heap_entry timer;
    unsigned refs;
    int listed;                         /* in the table */
    struct failover_state state;
    struct attempt attempts[MAX_ATTEMPTS];
    pjsip_rx_data *held;                /* a copy of the response that is held */
    uint64_t final_tag;                 /* a hash of the To tag of the final response that the application has */
    int settled;                        /* a 2xx has come: further responses decide nothing about account and dialog */
    const pjsip_transport *unsettled;   /* a connection that has ended while a thread was at the transaction; compared */
    int account;                        /* the followed one whose REGISTER it is, else -1 */
    int removes;                        /* a binding (RFC 3261, 10.2.2) */
    /* ------------------------------------------- */
    struct transaction_key key;         /* its branch only where it may go to another server, as what follows */
    pjsip_transport *udp;               /* referenced; NULL: over connections */
    const pf_address *candidates;       /* behind it in the same block, as what follows */
    const char *call_id, *name;         /* name: the host that TLS shows */
    const char *bytes;
    size_t size;
    char room[];
};

struct requests {
    pthread_mutex_t lock;
    struct hash_table table, lists;
    struct heap heap;
    atomic_ullong unwatched;            /* requests that found no room; read without the lock */
};

extern struct requests requests;

/* Makes a request that no other thread knows, with one reference; room: octets behind it. NULL: no memory. */
struct request *request_make(const pj_str_t *method, pjsip_method_e method_id, size_t room, double now);

/* Any thread that does not hold the lock. Returns the request with a reference; NULL: there is none. */
struct request *request_hold(uint64_t hash);

/* Any thread that holds no lock of ours: pjsip's are taken by the last one. */
void request_release(struct request *request);

/* As request_release(). Takes it out of the table; the caller keeps its own reference. */
void request_forget(struct request *request);

/* --- any thread, under requests.lock ----------------------------------------------------------------------------- */

struct request *request_find_locked(uint64_t hash);

/* Puts it into the table, which takes over the caller's reference. Returns 0, and does not: there is one already, or no room. */
int request_put_locked(struct request *request, uint64_t hash);

/* Takes it out; the table's reference is the caller's to release. Returns 0 when it was taken out before. */
int request_take_out_locked(struct request *request);

/* Takes any out, as request_take_out_locked(); NULL: there is none left, and the table's memory is freed. */
struct request *request_take_any_locked(void);

/* Has it looked at when failover_due() says, and returns that time. */
double request_schedule_locked(struct request *request);

/* Has it looked at at once. */
void request_schedule_now_locked(struct request *request);

/* The request that is to be looked at first, NULL: there is none; *due: when. */
struct request *request_first_due_locked(double *due);

/* Its attempt at that server, over that transport (NULL: over any); -1: there is none. */
int request_attempt_at_locked(const struct request *request, const pf_address *server, const pjsip_transport *transport);

/* The server has the request from now on; an earlier attempt at it is over. Returns its attempt, -1: there is no room. */
int request_add_attempt_locked(struct request *request, const pf_address *server, const pjsip_transport *transport, double now);

/*
 * The attempt that a response from source belongs to: the one at that server; with one attempt, that, for a server may have
 * several addresses; else the newest that is open, which *heard then tells, for nobody is credited. -1: none.
 */
int request_attempt_of_response_locked(const struct request *request, const pf_address *source, int *heard);

/* The bits of the candidates that are this server. */
unsigned request_candidates_of(const struct request *request, const pf_address *server);

/* The first attempt on that connection; the others follow by next. NULL: there is none. */
struct attempt *request_first_on_connection_locked(const pjsip_transport *transport);

/* The first attempt at that server over UDP; the others follow by next. NULL: there is none. */
struct attempt *request_first_at_server_locked(const pf_address *server);

/* Takes an attempt out of the list that it is in. */
void request_unlist_attempt_locked(struct attempt *attempt);

#endif
