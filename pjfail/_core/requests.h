/*
 * requests.h: the one table of the requests under way: the attempts of each at servers, the servers that it could go
 * to, and when it is due.
 *
 * The table holds a reference to a request, and so does each thread that works with it without the lock. requests.lock
 * guards the fields above the line; those below never change.
 */
#pragma once

#include "failover_decide.h"
#include "hash_table.h"
#include "heap.h"
#include "layout.h"
#include "pjfail.h"
#include "servers.h"
#include "transaction.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

/* One request at one server; failover_state has the rest. */
struct attempt {
    struct hash_link link; /* by its connection or, over UDP, by its server: what one event concerns */
    struct request *request;
    int listed; /* in requests.attempts */
    pf_address server;
    uint64_t server_hash;             /* address_hash() */
    const pjsip_transport *transport; /* compared, never followed */
    pjsip_transport
        *connection; /* the same, referenced until it ends; NULL: the request is only watched; another: of an
                                    earlier attempt here, kept until that ends or the request is freed */
};

struct request {
    struct hash_link link; /* by transaction_hash() */
    struct heap_entry timer;
    unsigned refs;
    int listed;                       /* in the table */
    pjsip_rx_data *held;              /* a copy of the response that is held */
    uint64_t final_tag;               /* a hash of the To tag of the final response that the application has */
    unsigned ruling;                  /* the number of the last question to the application */
    int settled;                      /* a 2xx has come: further responses say nothing about account and dialog */
    const pjsip_transport *unsettled; /* ended while a thread held the transaction; compared, never followed */
    int account;      /* the followed account whose REGISTER this is; negative: as affinity_registers() has it */
    int removes;      /* the REGISTER removes a binding (RFC 3261, 10.2.2) */
    int contact_port; /* of a REGISTER over a connection that removes none; else 0 */
    struct failover_state state;
    struct attempt attempts[MAX_ATTEMPTS];
    /* ------------------------------------------- */
    struct transaction_key key; /* its branch, and all that follows, only of a request that may go to another server */
    pjsip_tpselector selector;  /* from which listener connections are made, if the application has chosen one */
    const pf_address *candidates; /* in room, as all that follows */
    const char *call_id, *name;   /* name: the host name that TLS checks */
    const char *bytes;
    size_t size;
    int type; /* pjsip's, of the transport that their Via names */
    char room[];
};

struct requests {
    pthread_mutex_t lock;
    struct hash_table table, attempts;
    struct heap heap;
    atomic_ullong unwatched; /* counts the requests that found no room; read without the lock */
};

extern struct requests requests;

/* Returns whether any request is under way. Any thread without requests.lock. */
int requests_under_way(void);

/*
 * Makes a request that no other thread knows, with one reference and so many octets in room. Returns NULL if there is
 * no memory.
 */
struct request *request_make(const pj_str_t *method, pjsip_method_e method_id, size_t room, double now);

/* Returns the request with a reference that the caller owns; NULL: there is none. Any thread without requests.lock. */
struct request *request_hold(uint64_t hash);

/* Releases a reference. Any thread that holds no lock of ours: the last release calls pjsip. */
void request_release(struct request *request);

/* Takes the request out of the table; the caller keeps its own reference. Threads as for request_release(). */
void request_forget(struct request *request);

/* Releases a reference, and takes the request out of the table if forget is set. Threads as for request_release(). */
void request_finish(struct request *request, int forget);

/* --- any thread, under requests.lock ----------------------------------------------------------------------------- */

/* Returns the request, with no further reference; NULL: there is none. */
struct request *request_find_locked(uint64_t hash);

/*
 * Puts the request into the table, which takes over the caller's reference. Returns 0, and takes none, if the table has
 * one with that hash already, or no room.
 */
int request_put_locked(struct request *request, uint64_t hash);

/* Takes the request out of the table, whose reference the caller then owns. Returns 0 if it was taken out before. */
int request_take_out_locked(struct request *request);

/* Takes any request out, as request_take_out_locked(). Returns NULL, and frees the table's memory, if there is none. */
struct request *request_take_any_locked(void);

/* Schedules the request for the time of failover_due(), and returns that. */
double request_schedule_locked(struct request *request);

/* Schedules the request for now. */
void request_schedule_now_locked(struct request *request);

/* Returns the request that is due first, and when in *due; NULL: there is none. */
struct request *request_first_due_locked(double *due);

/* Returns the request's attempt at that server over that transport (NULL: over any); -1: there is none. */
int request_attempt_at_locked(const struct request *request, const pf_address *server,
                              const pjsip_transport *transport);

/*
 * Adds an attempt at the server, which has the request from now on; ends an earlier attempt at it. Returns the attempt, -1: there is
 * no room. The caller holds a reference to transport: where the request may go elsewhere, the attempt gets one of its own.
 */
int request_add_attempt_locked(struct request *request, const pf_address *server, const struct server_view *view,
                               pjsip_transport *transport, double now);

/*
 * Returns the transport, referenced, that the request goes to the server over: that of its attempt there, or over UDP that of any
 * attempt of the family. NULL: there is none yet.
 */
pjsip_transport *request_hold_transport(const struct request *request, const pf_address *server);

/*
 * Moves the transaction to the server, over that transport. Returns 0 when it cannot be moved. A SIP thread that holds no lock of ours.
 */
int request_move_transaction(struct request *request, const pf_address *server, pjsip_transport *transport);

/* Takes the attempt's reference to its connection, which the caller drops without the lock; NULL: there is none. */
pjsip_transport *request_take_connection_locked(struct attempt *attempt);

/* Returns the attempt's connection with one more reference, the caller's; NULL: there is none, or attempt is -1. */
pjsip_transport *request_hold_connection_locked(const struct request *request, int attempt);

/* Returns the same, and takes the lock. */
pjsip_transport *request_hold_connection(const struct request *request, int attempt);

/*
 * Returns the attempt that a response from source belongs to: the one at that server; otherwise the only attempt,
 * since a server may have several addresses; otherwise the newest open one. The last is a guess: *heard is then 0, and
 * no server is credited. Returns -1 if there is none.
 */
int request_attempt_of_response_locked(const struct request *request, const pf_address *source, int *heard);

/* Returns the candidates that are this server, as a bit mask. */
unsigned request_candidates_of(const struct request *request, const pf_address *server);

/* Return the first attempt on a connection, the first at a server over UDP, and the one after another; NULL: there is none. */
struct attempt *request_first_on_connection_locked(const pjsip_transport *transport);
struct attempt *request_first_at_server_locked(const pf_address *server);
struct attempt *request_next_attempt_locked(const struct attempt *attempt);

/* Hides the attempt from these. */
void request_unlist_attempt_locked(struct attempt *attempt);
