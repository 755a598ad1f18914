/*
 * course.h: the courses of the requests under way: which servers have each, and which could.
 */
#ifndef PJFAIL_COURSE_H
#define PJFAIL_COURSE_H

#include "layout.h"
#include "pjfail.h"
#include "table.h"

#include <pthread.h>
#include <stdint.h>

enum { MOST_LEGS = PF_MAX_ATTEMPTS };

/* A server that has the request. */
struct leg {
    pf_address server;
    const pjsip_transport *transport;   /* compared, never followed */
    double first_sent, last_sent;
    unsigned short sends;
    unsigned char provisional;          /* it gave one */
    unsigned char ended;                /* it answered finally, or its connection has ended */
    unsigned char suspected;
    unsigned char refused;              /* its port is closed */
    unsigned char given_up;             /* its connection */
};

/*
 * The course of a request: which servers have it, which could. What stands above the line is guarded by courses.lock, the rest
 * never changes. Held (refs) by the table and by whoever works with it.
 */
struct course {
    struct link link;                   /* by request_hash() */
    struct course *older, *newer;
    unsigned refs;
    int listed;                         /* in the table */
    double due;                         /* when to look at it again; INFINITY: only at its end */
    double soon;                        /* when its server is late by its own measure; INFINITY: that is past, or not known */
    double check;                       /* when to look whether its port is closed; INFINITY: that is past */
    struct leg legs[MOST_LEGS];
    unsigned count;
    unsigned char provisional, final;   /* what the application has seen */
    unsigned char lost;                 /* a connection has ended without the transaction's knowing */
    const pjsip_transport *unsettled;   /* a connection that has ended while a thread was at the transaction; compared */
    const struct leg *winner;
    pjsip_rx_data *kept;                /* a copy of the last answer that was kept back, and whose it is */
    struct leg *kept_from;
    uint64_t tried, unreachable;        /* candidates, a bit each; unreachable: tried, in vain */
    double again;                       /* when those are tried again */
    uint64_t withheld;                  /* tried, but not by us: no connect was due just then */
    double retry;                       /* when those are tried */
    unsigned retries;                   /* how often they were */
    /* ------------------------------------------- */
    double began, after;                /* after: INFINITY when silence is no reason */
    int invite;
    pjsip_transport *udp;               /* referenced */
    pjsip_method_e method_id;
    pf_address candidates[32];
    unsigned candidate_count;
    uint64_t last_resorts;              /* a bit each */
    char method[16], call_id[128], name[PF_MAX_HOST];
    char *branch, *bytes;               /* behind it in the same block */
    size_t branch_size, size;
    char room[];
};

/* All of them. plans.c's lock may be taken inside this one, and no other. */
struct courses {
    pthread_mutex_t lock;
    struct table table;
    struct course *oldest, *newest;
    unsigned attempts;                  /* at how many servers one request is tried (pf_steering) */
};

extern struct courses courses;

/* Any thread that does not hold the lock. Takes a course for work without it, NULL: there is none; release it. */
struct course *course_hold(uint64_t hash);

/* Any thread that holds no lock of ours: pjsip's are taken. */
void course_release(struct course *course);

/* As course_release(). Takes it out of the table. */
void course_forget(struct course *course);

/* --- any thread, under courses.lock ------------------------------------------------------------------------------ */

struct course *course_find(uint64_t hash);

/* Puts it into the table, which takes over the caller's hold. 0: it does not, for there is one already, or no room. */
int course_put(struct course *course, uint64_t hash);

/* The table's hold is the caller's to release. 0: it was taken out before. */
int course_take_out(struct course *course);

struct leg *course_leg_of(struct course *course, const pf_address *server);

/* The server has the request from now on. NULL: there is no room. */
struct leg *course_add_leg(struct course *course, const pf_address *server, const pjsip_transport *transport, double now);

/* It was tried in vain, and is tried again once no other is left. */
void course_note_unreachable(struct course *course, const pf_address *server);

/* No connect to it was due; it is tried a little later. */
void course_note_withheld(struct course *course, const pf_address *server);

/* How many may still answer. */
unsigned course_pending_legs(const struct course *course);

/* The candidate to have the request next: well, then suspect, then those of last resort, in the plan's order; -1: none is left. */
int course_next_candidate(const struct course *course);

#endif
