/*
 * queries.h: pjsip's queries that have to wait, each answered exactly once and within its deadline.
 *
 * A query waits with others for the same target. It ends by a plan, by Python saying that there is none, or by its deadline;
 * pjsip's callback then runs on pjsip's polling thread (queries_run(), queries_tick()), with no lock of ours held.
 */
#pragma once

#include "plans.h"
#include "send_guard.h"

enum answer_from { ANSWER_PLAN, ANSWER_STALE, ANSWER_SYSTEM, ANSWER_ERROR };

/* deadline: seconds that Python has for a query. wake: makes the polling thread call queries_run(). */
void queries_open(double deadline, void (*wake)(void));

/* Stops taking queries and returns those that wait, for the caller to answer and free. */
struct pending_query *queries_close(void);

/* Returns whether each request is to be asked about by itself. */
int queries_each(void);

/*
 * Takes ownership of query and asked, or returns 0 and takes neither: closed. Each request is asked about by itself where
 * that is wanted and the asked tells of one.
 */
int queries_ask(const pf_target *target, uint64_t hash, struct pending_query *query, pf_query *asked);

/*
 * Has the polling thread answer query, soon, by the target's plan or by own. Takes ownership of both, or returns 0 and does not.
 * May be called with a transaction's lock held.
 */
int queries_defer(const pf_target *target, struct pending_query *query, struct plan *own);

/* Any thread: those who wait for target, or the request that asked as id, are answered from there, soon. */
void queries_end(const pf_target *target, unsigned id, enum answer_from from);

/* pjsip's polling thread. */
void queries_run(void);
void queries_tick(double now);

unsigned long long queries_waiting(void);
void queries_count(pf_counters *counters);

/* Answered without waiting, in resolver.c. */
void queries_count_inline(int from_plan);
