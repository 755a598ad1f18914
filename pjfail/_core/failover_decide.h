/*
 * failover_decide.h: what becomes of a request, decided: an enum of states, events, and the actions that follow.
 *
 * Pure: no lock, no pjsip, no clock, no memory of its own. Times are CLOCK_MONOTONIC seconds and arguments. failover.c keeps a
 * struct failover_state in each request, under the lock of the requests, and does what the actions say without that lock.
 * cffi reads this file as it is, for the tests.
 */
#ifndef PJFAIL_FAILOVER_DECIDE_H
#define PJFAIL_FAILOVER_DECIDE_H

/* A request is tried at so many servers at the most, out of so many. */
enum { MAX_ATTEMPTS = 8, MAX_CANDIDATES = 32 };

enum request_state {
    REQUEST_TRYING,         /* the application has seen no response: the next server may have it */
    REQUEST_PROCEEDING,     /* the application has seen a provisional response: it stays with the servers that have it */
    REQUEST_COMPLETED       /* the application has its final response, and hears of no other */
};

/* One request at one server. */
struct attempt_state {
    double first_sent, last_sent;
    unsigned sends;
    unsigned candidates;            /* a bit for each candidate that is this server */
    unsigned char provisional;      /* it was answered with 101 to 199, or 100 */
    unsigned char ended;            /* it was answered finally, or its connection has ended */
    unsigned char guessed;          /* ended by a response of which nobody knows whose it is */
    unsigned char suspected;        /* its server is suspect: it was before, or has been marked because of it */
    unsigned char began_suspect;    /* its server was suspect before */
    unsigned char silent;           /* its silence, or its connection's end, was reported */
    unsigned char overtaken;        /* the response of another attempt came first */
    unsigned char refused;          /* its server's port is closed */
    unsigned char abandoned;        /* its connection is left to those who wait on it still */
};

struct failover_state {
    enum request_state state;
    /* What never changes. */
    unsigned char invite, reliable;         /* reliable: over connections */
    double began;
    double timeout;                         /* seconds without a response after which the next server is tried; INFINITY: never */
    unsigned max_attempts;
    unsigned candidate_count;               /* 0: the request is watched, and goes to no other server */
    unsigned last_resorts;                  /* a bit each, as those that follow */
    /* What changes. */
    struct attempt_state attempts[MAX_ATTEMPTS];
    unsigned attempt_count;
    int newest;                             /* the attempt that began last */
    unsigned tried;
    unsigned unreachable;                   /* tried in vain; tried again at retry_unreachable_at, once no other is left */
    unsigned deferred;                      /* no connect was due; tried again at retry_deferred_at */
    double retry_unreachable_at, retry_deferred_at;
    unsigned deferrals;
    double hedge_at;                        /* when the server is late by its own round trips; INFINITY: that is past, or not known */
    double check_port_at;                   /* INFINITY: that is past */
    double expires_at;
    int cancelled;                          /* by the application: no server shall begin to ring */
    int stranded;                           /* a connection has ended, and the transaction was kept from hearing of it */
    int winner;                             /* the attempt that had its final response passed; -1: none, or nobody knows */
    int holds;                              /* a final response is held */
};

enum failover_event_kind {
    FAILOVER_RESPONSE,              /* attempt, heard, code, retriable, same_dialog */
    FAILOVER_TIMER,                 /* may_hedge, alive */
    FAILOVER_CONNECTION_ENDED,      /* attempt; kept: the transaction does not hear of it */
    FAILOVER_PORT_CLOSED,           /* attempt */
    FAILOVER_NOBODY_LEFT,           /* the retry that was decided could reach no server; reason, attempt as then */
    FAILOVER_CANCELLED,             /* the application cancels its INVITE; attempt: whose server gets pjsip's own CANCEL */
    FAILOVER_GIVEN_UP,              /* the transaction is over */
    FAILOVER_DETACH
};

/* Why a request is tried at another server. The order is that of pf_failover's. */
enum failover_reason { RETRY_SILENT, RETRY_SLOW, RETRY_CODE, RETRY_LOST, RETRY_RACE, RETRY_REFUSED };

struct failover_event {
    enum failover_event_kind kind;
    int attempt;                    /* -1: none that is known */
    int heard;                      /* the response came from the attempt's server; else the attempt is a guess */
    int code;                       /* of the response */
    int retriable;                  /* one of those codes for which the next server is tried */
    int same_dialog;                /* the response repeats the one that the application has */
    int may_hedge;                  /* the budget has room */
    int alive;                      /* the transaction is there still; only where failover_asks_if_alive() */
    int kept;
    enum failover_reason reason;
};

struct failover_actions {
    int pass;                       /* FAILOVER_RESPONSE: the transaction gets the response */
    int hold;                       /* the response is kept, to be delivered when there is no better one */
    int acknowledge;                /* we acknowledge the response (ACK to a non-2xx), to its sender */
    int acknowledge_unmoved;        /* we do so where the transaction cannot be moved to move_to */
    int hang_up;                    /* we acknowledge the 2xx and end its call */
    int cancel_others;              /* CANCEL to all that ring, but cancel_except; -1: nobody is excepted */
    int cancel_except;
    int move_to;                    /* the transaction moves to this attempt; -1: it stays */
    int retry;                      /* the next candidate is tried, for this reason, in place of attempt left */
    enum failover_reason reason;
    int left;
    int move_along;                 /* and the transaction moves there at once: where it was there is nothing to hope for */
    int deliver_held;               /* the transaction gets the response that is held */
    int end_transaction;            /* when there is none: it ends, as its transport would end it */
    int forget;
    int check_port;                 /* of the newest attempt */
    unsigned suspect, resend, abandon, silent;     /* attempts, a bit each */
};

void failover_start(struct failover_state *request, double now);

/* The request goes to a server: again, in the place of its attempt at, or -1. Returns its attempt, -1: there is no room. */
int failover_add_attempt(struct failover_state *request, int at, unsigned candidates, int suspect, double now);

/* pjsip sends the request to that attempt's server again. Returns the other attempts whose servers get a copy, a bit each. */
unsigned failover_resend(struct failover_state *request, int attempt, double now, struct failover_actions *actions);

/* One more was sent to that attempt's server by ourselves. */
void failover_count_send(struct failover_state *request, int attempt, double now, struct failover_actions *actions);

/* Decides. Whatever happened is in request afterwards; what is to be done in actions, which is overwritten. */
void failover_decide(struct failover_state *request, const struct failover_event *event, double now,
                     struct failover_actions *actions);

/* Whether the next FAILOVER_TIMER, at now, has to tell if the transaction is alive. */
int failover_asks_if_alive(const struct failover_state *request, double now);

/* When the next FAILOVER_TIMER is due. */
double failover_due(const struct failover_state *request);

/* Whether there is any candidate to be tried next. */
int failover_has_candidate(const struct failover_state *request);

/* The candidate to be tried next: those that are not suspect (a bit each), then the suspects, then those of last resort; in the
 * plan's order. -1: none is left. */
int failover_next_candidate(const struct failover_state *request, unsigned suspects);

/* A candidate, and all bits of its server, could not be connected to; or no connect to it was due. */
void failover_note_unreachable(struct failover_state *request, unsigned candidates, double now);
void failover_note_deferred(struct failover_state *request, unsigned candidates, double now);

/* Whether the transaction shall outlive the end of a connection: somebody else may still answer, or be asked. */
int failover_outlives_connection(const struct failover_state *request);

/* Whether the attempt's server may be ringing, so that only a CANCEL ends that. */
int failover_may_ring(const struct attempt_state *attempt);

#endif
