/*
 * failover_decide.h: decides what becomes of a request: an enum of states, events, and the actions that follow.
 *
 * The functions are pure: no lock, no pjsip, no clock, no memory of their own. Times are CLOCK_MONOTONIC seconds and arguments.
 * failover.c keeps a struct failover_state in each request, under requests.lock, and does what the actions say without that lock.
 * For the tests, cffi reads this file without its preprocessor lines.
 */
#pragma once

/* The most servers that one request is sent to, and the most that they are chosen from. */
enum { MAX_ATTEMPTS = 8, MAX_CANDIDATES = 32 };

enum request_state {
    REQUEST_TRYING, /* the application has seen no response but a 100: the request may go to the next server */
    REQUEST_PROCEEDING, /* the application has seen a 101-199: the request stays with the servers that have it (RFC 3261 section 16.7) */
    REQUEST_COMPLETED /* the application has its final response, or has given up: no further response reaches it */
};

/* What the application says of a final response that is held. */
enum failover_ruling {
    RULING_NONE, /* it is not asked */
    RULING_AWAITED,
    RULING_PASS, /* the response is its answer, which is still to be delivered */
    RULING_RETRY /* the next server is still to be tried */
};

/* One request at one server. */
struct attempt_state {
    double first_sent, last_sent;
    unsigned sends;
    unsigned candidates;       /* a bit for each candidate that is this server */
    unsigned char provisional; /* a provisional response has come, 100 included: the server is not silent */
    unsigned char bound;       /* a 101-199 has come: what follows may be another server's answer, further downstream */
    unsigned char ended;       /* a final response has come, or the connection has ended */
    unsigned char guessed;     /* ended by a response from an unknown source, which may be another server's */
    unsigned char suspected;   /* the server is suspect: from before, or because of this attempt */
    unsigned char began_suspect; /* the server was suspect before this attempt */
    unsigned char silent;        /* the server's silence, or its connection's end, was reported */
    unsigned char overtaken;     /* another attempt had a final response first */
    unsigned char refused;       /* the server's port is closed */
    unsigned char abandoned;     /* the connection was closed to later requests */
    unsigned char resumed;       /* how often its clock began anew, which then says nothing of the round trip */
    unsigned char
        hedge_of; /* 1 + the attempt whose lateness this one was sent for; 0: it was sent for a failure, or first */
    unsigned char reliable; /* over a connection */
};

struct failover_state {
    enum request_state state;
    /* What never changes. */
    unsigned char invite;
    double began;
    double timeout; /* seconds without a response after which the next server is tried; INFINITY: never */
    unsigned max_attempts;
    unsigned candidate_count; /* 0: the request is only watched, and goes to no other server */
    unsigned last_resorts;    /* candidates, a bit each; so are tried, unreachable and deferred */
    /* What changes. */
    unsigned char reliable; /* pjsip's transaction repeats nothing, and takes responses not to be repeated */
    unsigned barred;        /* candidates that the request may not go to any more, a bit each */
    unsigned attempt_count;
    int newest;             /* the attempt that began last */
    unsigned char hedge_of; /* of the next attempt */
    unsigned char
        answered; /* the transaction has had a provisional response: pjsip repeats an INVITE no more, nor ends it */
    unsigned tried;
    unsigned unreachable; /* no connection: tried again from retry_unreachable_at, once no other is left */
    unsigned deferred;    /* no connect was allowed yet: tried again from retry_deferred_at */
    double retry_unreachable_at, retry_deferred_at;
    unsigned deferrals;
    double hedge_at;      /* when the server is late by its own round trips; INFINITY: never, or no more */
    double check_port_at; /* INFINITY: never, or no more */
    double expires_at;    /* when the request is forgotten, or its transaction asked for */
    int cancelled;        /* the application has hung up on the INVITE: no further server shall ring */
    int stranded;         /* a connection has ended, and the transaction was kept from hearing of it */
    int winner;           /* the attempt whose final response was passed; -1: none, or it is unknown */
    int holds;            /* a final response is held */
    enum failover_ruling ruling;
    double ruling_until; /* then the held response is passed on */
    int asked_attempt, asked_code;
    struct attempt_state attempts[MAX_ATTEMPTS]; /* last: most requests have one, which so lies near the rest */
};

enum failover_event_kind {
    FAILOVER_RESPONSE,         /* attempt, heard, code, retriable, askable, same_dialog */
    FAILOVER_TIMER,            /* may_hedge, alive */
    FAILOVER_CONNECTION_ENDED, /* attempt; kept: the transaction does not hear of it */
    FAILOVER_PORT_CLOSED,      /* attempt */
    FAILOVER_NOBODY_LEFT, /* the retry that was decided could reach no server, or the application could not be asked; reason,
                                  attempt as then; code: of the response at hand, 0: it is held */
    FAILOVER_RULED,       /* the application has decided; retriable */
    FAILOVER_CANCELLED, /* the application hangs up on its INVITE; attempt: where pjsip's own CANCEL goes, -1: it sends none */
    FAILOVER_GIVEN_UP, /* the transaction is over */
    FAILOVER_DETACH
};

/* Why a request is tried at another server. The values are those of pf_failover.why. */
enum failover_reason { RETRY_SILENT, RETRY_SLOW, RETRY_CODE, RETRY_LOST, RETRY_RACE, RETRY_REFUSED };

struct failover_event {
    enum failover_event_kind kind;
    int attempt;     /* -1: unknown */
    int heard;       /* the response came from the attempt's server; 0: the attempt is a guess */
    int code;        /* of the response */
    int retriable;   /* the policy tries the next server for this code */
    int askable;     /* the application decides about this code */
    int same_dialog; /* the response repeats the one that the application has */
    int may_hedge;   /* the hedge budget has room */
    int alive;       /* the transaction still exists; read only where failover_asks_if_alive() says so */
    int kept;
    enum failover_reason reason;
};

struct failover_actions {
    int pass;                /* give the response to the transaction */
    int hold;                /* keep a copy of the response, to be delivered if no better one comes */
    int acknowledge;         /* send the ACK to this non-2xx ourselves, to its sender */
    int acknowledge_unmoved; /* the same, if the transaction was not moved to move_to */
    int hang_up;             /* send the ACK to this 2xx ourselves, and a BYE */
    int move_to;             /* move the transaction to this attempt; -1: do not */
    int retry;               /* try the next candidate, for this reason, in place of attempt left */
    enum failover_reason reason;
    int left;            /* -1: unknown */
    int code;            /* of the response that is left behind; 0: none */
    int ask;             /* ask the application about the response, which is held meanwhile */
    int move_along;      /* move the transaction there at once: it can expect nothing where it is */
    int deliver_held;    /* give the held response to the transaction */
    int end_transaction; /* end the transaction, as the end of its transport would */
    int forget;          /* take the request out of the table */
    int check_port;      /* look whether the first attempt's port is closed */
    unsigned suspect;    /* attempts, a bit each: mark their servers suspect */
    unsigned resend;     /* send their servers another copy */
    unsigned abandon;    /* close their connections to later requests */
    unsigned silent;     /* report their servers' silence */
    unsigned cancel;     /* send their servers a CANCEL */
};

/* Begins a request, all of which is 0. */
void failover_start(struct failover_state *request, double now);

/*
 * Records that the request goes to a server, which is these candidates. at: the server's earlier attempt, which begins
 * again, or -1. Returns the attempt; -1: there have been max_attempts already.
 */
int failover_add_attempt(struct failover_state *request, int at, unsigned candidates, int suspect, double now);

/*
 * Records that pjsip sends the request to that attempt's server again. Returns, as a bit mask, the other attempts that
 * get a copy.
 */
unsigned failover_resend(struct failover_state *request, int attempt, double now, struct failover_actions *actions);

/*
 * Has the clocks of unanswered attempts begin anew that were sent before the polling thread ran, which is since polled_since: what
 * their servers answered has not been read. Returns those whose servers get another copy, a bit each.
 */
unsigned failover_resume(struct failover_state *request, double polled_since, double now);

/* Decides what follows from the event: changes request, and overwrites actions. */
void failover_decide(struct failover_state *request, const struct failover_event *event, double now,
                     struct failover_actions *actions);

/* Returns whether a FAILOVER_TIMER at that time reads event.alive. */
int failover_asks_if_alive(const struct failover_state *request, double now);

/* Returns when the next FAILOVER_TIMER is due. */
double failover_due(const struct failover_state *request);

/*
 * Returns whether pjsip has just retransmitted the request to its one server, so that its transaction exists. Not for
 * an INVITE, which rings where it goes.
 */
int failover_was_just_repeated(const struct failover_state *request, double now);

/* Returns whether there is a candidate to be tried next. */
int failover_has_candidate(const struct failover_state *request);

/*
 * Returns the next candidate, -1 if there is none: in the plan's order, first those that are not suspects (a bit
 * mask), then the suspects, then the last resorts.
 */
int failover_next_candidate(const struct failover_state *request, unsigned suspects, enum failover_reason reason);

/* Returns the attempt at whose server the request counts as answered when that attempt is: a hedge does not replace the server that
 * is only late. */
int failover_credited_attempt(const struct failover_state *request, int attempt);

/*
 * Record that a server, which is these candidates, could not be connected to; or that no connect to it was allowed
 * yet.
 */
void failover_note_unreachable(struct failover_state *request, unsigned candidates, double now);
void failover_note_deferred(struct failover_state *request, unsigned candidates, double now);

/*
 * Returns whether the transaction should outlive the end of a connection, because another server may still answer or
 * be tried.
 */
int failover_outlives_connection(const struct failover_state *request);
