/*
 * servers.h: the servers of all plans, with what was measured and seen of each.
 *
 * One mutex guards them, and the plans too: see plans.c. Any thread may call these functions.
 */
#pragma once

#include "hash_table.h"
#include "pjfail.h"

#include <pthread.h>

struct server {
    struct hash_link link;
    pf_address address;
    unsigned refs;     /* entries in plans */
    unsigned sequence; /* the number of its last failure */
    double suspect_until;
    double last_answer;
    double answered_options,
        answered_other;       /* an OPTIONS, another request: when last, other than with 408; negative: never */
    double connection_failed; /* when a connection last failed or could not be made; negative: never */
    double copy_timed_out;    /* when a connection to its TCP copy was last given up unanswered; negative: never */
    float rtt, rttvar;
    unsigned answers, silences, refusals, unavailable;
    unsigned good, reported; /* good answers: all of them, and those that Python knows of */
    int report_answer;       /* Python needs to know of the next answer */
    char failed_method[16];  /* and of the next answer to this method, whatever was answered before */
};

extern struct servers {
    pthread_mutex_t lock;
    struct hash_table table;
} servers;

/* --- under servers.lock ------------------------------------------------------------------------------------------ */

/*
 * Returns the server, NULL when it is in no plan. A request that is too large for UDP goes over TCP (RFC 3261 section 18.1.1): a TCP
 * address that is in no plan is a copy of the UDP server there, and what is seen of the one is seen of the other.
 */
struct server *servers_find_locked(const pf_address *address);

/* Returns the server, made if there was none, with a new reference; NULL: no memory. */
struct server *servers_hold_locked(const pf_address *address);

/* Drops a reference, and the server with the last one. */
void servers_release_locked(struct server *server);

/* --- without it --------------------------------------------------------------------------------------------------- */

/* Returns whether the server is in any plan; pjfail watches no other servers. */
int servers_know(const pf_address *server);

/* What is known of a server at one moment. */
struct server_view {
    uint64_t hash;         /* address_hash() */
    int suspect;           /* as servers_is_suspect() */
    int answered_recently; /* as servers_answered_within() RECENT_ANSWER_S */
    double rto; /* so many seconds after the request an answer is overdue (RFC 6298); negative: not measured */
};

/* Fills in the view of the server. Returns 0 where servers_know() does; only hash is of use then. */
int servers_view(const pf_address *server, double now, struct server_view *view);

/* Returns whether that TCP address is a copy of a UDP server. */
int servers_is_copy(const pf_address *server);

/*
 * Returns whether a connection to the UDP server's TCP copy was given up unanswered within the last COPY_REST_S: a firewall drops them, most
 * likely. Under servers.lock.
 */
int servers_copy_rests_locked(const struct server *server, double now);

/* Returns the server as plans have it: the UDP server where this is its copy. */
pf_address servers_original(const pf_address *server);

/*
 * Watches the server, even if it is in no plan, until servers_release(). Returns 0 if there is no memory. Does nothing
 * for family 0.
 */
int servers_hold(const pf_address *server);

/* Ends what servers_hold() began. */
void servers_release(const pf_address *server);

/* Puts the server last, without an outcome, until it answers or Python has judged what follows. */
void servers_suspect(const pf_address *server);

/* Returns whether the server is put last. */
int servers_is_suspect(const pf_address *server);

/* Ends the core's own suspicion, which was wrong. */
void servers_clear_suspect(const pf_address *server);

/* Returns whether a connection to the server failed, or could not be made, within so many last seconds. */
int servers_failed_within(const pf_address *server, double seconds);

/* Seconds: a server that has answered within this time counts as alive, and no precautions are taken. */
#define RECENT_ANSWER_S 30.0

/* Returns whether the server answered within the last so many seconds, and is not suspect. */
int servers_answered_within(const pf_address *server, double seconds);

/*
 * Records an answer that has come now. hash: the server's address_hash(). rtt: seconds, negative when this answer must
 * not be measured. error: it tells of trouble that is the server's own.
 */
void servers_record_answer(const pf_address *server, uint64_t hash, const char *method, int code, int error, double rtt,
                           double now);

/*
 * Records a failure: fills in the outcome's server, sequence and time (and when it began, if that is 0), makes the
 * server suspect if that is due, and tells the worker. Does nothing for a copy that could not be connected to.
 */
void servers_record_failure(const pf_address *server, pf_outcome *outcome);

/* Returns how many servers there are. */
unsigned long long servers_count(void);
