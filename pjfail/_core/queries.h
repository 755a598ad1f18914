/*
 * queries.h: pjsip's queries that must wait, each answered exactly once and within its deadline.
 *
 * A query waits together with the others for its target. A plan ends the wait, or Python saying that there is none, or
 * the deadline; pjsip's callback then runs on pjsip's polling thread (queries_run(), queries_tick()), with no lock of
 * ours held.
 */
#pragma once

#include "plans.h"
#include "send_guard.h"

enum answer_from { ANSWER_PLAN, ANSWER_STALE, ANSWER_SYSTEM, ANSWER_ERROR };

/*
 * deadline: seconds that Python has for a query. wake: makes the polling thread call queries_run(); begin_ticks:
 * queries_tick(), as long as queries wait.
 */
void queries_open(double deadline, void (*wake)(void), void (*begin_ticks)(void));

/* Stops taking queries and returns those that wait, for the caller to answer and free. */
struct pending_query *queries_close(void);

/* Returns whether each request asks for a plan of its own. */
int queries_each(void);

/*
 * Makes query wait, and posts asked to Python. Takes ownership of both, or returns 0 and takes neither if closed. If
 * each request asks for itself and asked belongs to a request, it gets an id.
 */
int queries_ask(const pf_target *target, uint64_t hash, struct pending_query *query, pf_query *asked);

/*
 * Makes the polling thread answer query, soon, by the target's plan or by own. Takes ownership of both, or returns 0
 * and takes neither. The caller may hold a transaction's lock.
 */
int queries_defer(const pf_target *target, struct pending_query *query, struct plan *own);

/* Has the queries that wait for target, or the request that asked as id, answered from there, soon. Any thread. */
void queries_end(const pf_target *target, unsigned id, enum answer_from from);

/* Answers the queries that are ready. pjsip's polling thread. */
void queries_run(void);
void queries_tick(double now);

unsigned long long queries_waiting(void);
void queries_count(pf_counters *counters);

/* Counts a query that resolver.c has answered at once. */
void queries_count_inline(int from_plan);
