/*
 * questions.h: pjsip's questions that have to wait, each answered exactly once and within its deadline.
 *
 * A question waits with others for the same target. It ends by a plan, by Python saying that there is none, or by its deadline;
 * pjsip's callback then runs on pjsip's polling thread (questions_run(), questions_tick()), with no lock of ours held.
 */
#ifndef PJFAIL_QUESTIONS_H
#define PJFAIL_QUESTIONS_H

#include "plans.h"

enum answer_from { ANSWER_PLAN, ANSWER_STALE, ANSWER_SYSTEM, ANSWER_ERROR };

/* What pjsip wants to be called back with. */
struct waiter {
    struct waiter *next;
    pj_pool_t *pool;
    pjsip_host_info info;       /* its host is in name */
    void *token;
    pjsip_resolver_callback *callback;
    struct asker asker;
    double since;               /* when it was asked */
    char name[PF_MAX_HOST];
};

/* deadline: seconds that Python has for a question. wake: makes the polling thread call questions_run(). */
void questions_open(double deadline, void (*wake)(void));

/* Stops taking questions and returns those that wait, for the caller to answer and free. */
struct waiter *questions_close(void);

/* Whether each request is to be asked about by itself. */
int questions_each(void);

/*
 * Takes ownership of waiter and question, or returns 0 and takes neither: closed. Each request is asked about by itself where
 * that is wanted and the question tells of one.
 */
int questions_ask(const pf_target *target, uint64_t hash, struct waiter *waiter, pf_question *question);

/*
 * Has the polling thread answer waiter, soon, by the target's plan or by own. Takes ownership of both, or returns 0 and does not.
 * May be called with a transaction's lock held.
 */
int questions_put_off(const pf_target *target, struct waiter *waiter, struct plan *own);

/* Any thread: those who wait for target, or the request that asked as id, are answered from there, soon. */
void questions_end(const pf_target *target, unsigned id, enum answer_from from);

/* pjsip's polling thread. */
void questions_run(void);
void questions_tick(double now);

unsigned long long questions_waiting(void);
void questions_count(pf_counters *counters);

/* Answered without waiting, in resolver.c. */
void questions_count_inline(int from_plan);

#endif
