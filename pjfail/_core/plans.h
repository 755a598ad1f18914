/*
 * plans.h: the plans that Python has published, and the servers in them with what was seen of each.
 *
 * One mutex guards both, held for a lookup and the drawing of an order; no other lock is taken inside, no callback runs
 * inside. Any thread may call any function here.
 */
#ifndef PJFAIL_PLANS_H
#define PJFAIL_PLANS_H

#include "layout.h"
#include "pjfail.h"
#include "table.h"

/* Who asks, as far as the message tells: so that what belongs together stays together. */
struct asker {
    pf_address server;      /* the one that its Call-ID was last answered by, or its account follows; family 0: none */
    int in_dialog;          /* it has a To tag */
    int bound;              /* it must go there if that server is in the plan: a dialog, or a challenge's answer */
    int follows;            /* it goes there first if that server is in the plan and not suspect */
    int sends;              /* a request is being sent: its token is a pjsip_send_state */
    int free_to_race;       /* over whatever connection there is */
};

/* What an answer adds to the priorities of a plan's last resorts (pf_entry), above any tier. */
enum { LAST_RESORT = 0x10000 };

enum plan_found { PLAN_NONE, PLAN_STALE, PLAN_FRESH };

uint64_t target_hash(const pf_target *target);

/*
 * Writes the plan's servers in this use's order to answer, at most answer_limit(); name becomes their name. A plan that is too
 * old is used only when stale is set. *refresh is set, once a plan, when it wants to be made anew soon.
 */
enum plan_found plans_answer(const pf_target *target, uint64_t hash, const struct asker *asker, const pj_str_t *name,
                             int stale, answer *answer, int *refresh);

/* A plan that only one request goes by, in no table; NULL: no memory. Its owner drops it. */
struct plan *plans_make(const pf_target *target, const pf_entry *entries, int count);
void plans_answer_by(const struct plan *plan, const struct asker *asker, const pj_str_t *name, answer *answer);
void plans_drop(struct plan *plan);

/* Whether there is a plan, of whatever age. */
int plans_have(const pf_target *target, uint64_t hash);

/* Whether the server is in any plan: what happens elsewhere is none of our business. */
int plans_know(const pf_address *server);

/* Has the server watched though it be in no plan, until released. 0: no memory. Family 0: nothing to do. */
int plans_hold(const pf_address *server);
void plans_release(const pf_address *server);
/* First aid without an outcome: the server is put last until it answers, or Python has judged what follows. */
void plans_suspect(const pf_address *server);

int plans_is_suspect(const pf_address *server);

/* Ends the core's own suspicion: it was wrong. */
void plans_clear_of_suspicion(const pf_address *server);

/* Whether a connection to the server failed, or could not be made, within the last so many seconds. */
int plans_failed_within(const pf_address *server, double seconds);

/* When an answer of the server is overdue, in seconds since it was asked: its smoothed round trip and four times the deviation.
 * Negative when it has never been measured. */
double plans_overdue(const pf_address *server);

/* A server that has answered within so many seconds is taken at its word: nothing is done beforehand in case that it is dead. */
#define WELL_SECONDS 30.0

/* Whether the server answered within the last so many seconds, and is not suspect. */
int plans_is_well(const pf_address *server, double seconds);

/* rtt: seconds, negative when this answer must not be measured. error: it tells of trouble that is the server's own. */
void plans_note_answer(const pf_address *server, const char *method, int code, int error, double rtt);

/*
 * Fills in outcome's server, time (and when it began, where that is 0) and sequence, marks the server suspect where that is
 * due, and tells the worker.
 */
void plans_note_failure(const pf_address *server, pf_outcome *outcome);

void plans_count(unsigned long long *plans, unsigned long long *servers);
void plans_clear(void);

/* 0 when pjfail does not speak this transport or family. */
int address_of(pf_address *address, const pj_sockaddr *sockaddr, int pjsip_type);
int address_to_sockaddr(const pf_address *address, pj_sockaddr *sockaddr);     /* its length */
int address_pjsip_type(const pf_address *address);

#endif
