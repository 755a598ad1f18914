/*
 * queue.h: what pjsip's threads tell the worker: questions, outcomes in batches, answers of pjsip's DNS resolver.
 *
 * Any thread may put; only the worker takes. One mutex, held for a few instructions and never together with another.
 */
#ifndef PJFAIL_QUEUE_H
#define PJFAIL_QUEUE_H

#include "pjfail.h"

int queue_open(void);                               /* 0: no event descriptor, see errno */
void queue_close(void);                             /* drops what nobody has fetched */

/* Takes ownership of question. */
void queue_put_question(pf_question *question);

/* Takes ownership of answer. */
void queue_put_dns_answer(pf_dns_answer *answer);

/* Copies outcome. When the worker is far behind, it is dropped and counted. */
void queue_put_outcome(const pf_outcome *outcome);

/* Takes ownership of failover. */
void queue_put_failover(pf_failover *failover);

unsigned long long queue_dropped(void);

#endif
