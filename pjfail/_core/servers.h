/*
 * servers.h: the servers of all plans, with what was seen of each.
 *
 * One mutex guards them, and the plans too: see layers.txt. Any thread may call any function here.
 */
#pragma once

#include "hash_table.h"
#include "pjfail.h"

#include <pthread.h>

struct server {
    struct hash_link link;
    pf_address address;
    unsigned refs;     /* places in plans */
    unsigned sequence; /* of its bad outcomes */
    double suspect_until;
    double last_answer;
    double answered_options,
        answered_other;       /* an OPTIONS, another request: when last, other than with 408; negative: never */
    double connection_failed; /* or could not be made, when last; negative: never */
    float rtt, rttvar;
    unsigned answers, silences, refusals, unavailable;
    unsigned good, reported; /* answers without error: all, and those that Python knows of */
    int report_answer;       /* the next answer is news for Python */
    char failed_method[16];  /* so is the next one to this method, whatever was answered before */
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

/* Returns the server, made where there was none, with one more reference; NULL: no memory. */
struct server *servers_hold_locked(const pf_address *address);

/* Drops a reference, and the server with the last one. */
void servers_release_locked(struct server *server);

/* --- without it --------------------------------------------------------------------------------------------------- */

/* Returns whether the server is in any plan: what happens elsewhere is none of our business. */
int servers_know(const pf_address *server);

/* Returns whether that TCP address is a copy of a UDP server. */
int servers_is_copy(const pf_address *server);

/* Returns the server as plans have it: the UDP server where this is its copy. */
pf_address servers_original(const pf_address *server);

/* Has the server watched though it be in no plan, until released. 0: no memory. Family 0: nothing to do. */
int servers_hold(const pf_address *server);

/* Ends what servers_hold() began. */
void servers_release(const pf_address *server);

/* Puts the server last, without an outcome, until it answers or Python has judged what follows. */
void servers_suspect(const pf_address *server);

/* Returns whether the server is put last. */
int servers_is_suspect(const pf_address *server);

/* Ends the core's own suspicion: it was wrong. */
void servers_clear_suspect(const pf_address *server);

/* Returns whether a connection to the server failed, or could not be made, within the last so many seconds. */
int servers_failed_within(const pf_address *server, double seconds);

/*
 * Returns when an answer of the server is overdue, in seconds since it was asked: its smoothed round trip and four
 * times the deviation. Negative when it has never been measured.
 */
double servers_rto(const pf_address *server);

/* A server that has answered within so many seconds is taken at its word: nothing is done beforehand in case that it is dead. */
#define RECENT_ANSWER_S 30.0

/* Returns whether the server answered within the last so many seconds, and is not suspect. */
int servers_answered_within(const pf_address *server, double seconds);

/*
 * Records an answer. rtt: seconds, negative when this answer must not be measured. error: it tells of trouble that is
 * the server's own.
 */
void servers_record_answer(const pf_address *server, const char *method, int code, int error, double rtt);

/*
 * Fills in outcome's server, time (and when it began, where that is 0) and sequence, marks the server suspect where that is
 * due, and tells the worker. Nothing of this for a copy that could not be connected to.
 */
void servers_record_failure(const pf_address *server, pf_outcome *outcome);

/* Returns how many there are. */
unsigned long long servers_count(void);
