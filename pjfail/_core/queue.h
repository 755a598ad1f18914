/*
 * queue.h: what pjsip's threads tell the worker: questions, outcomes in batches, notes one by one.
 *
 * Any thread may put; only the worker takes. One mutex, held for a few instructions and never together with another.
 *
 * While the worker does not fetch, 4096 of a kind are kept, and what is dropped is counted. Never dropped are a question that
 * somebody waits for, an answer that Python asked for, and the latest registration of an account.
 */
#ifndef PJFAIL_QUEUE_H
#define PJFAIL_QUEUE_H

#include "pjfail.h"

int queue_open(void);                               /* 0: no event descriptor, see errno */
void queue_close(void);                             /* drops what nobody has fetched */

/* Takes ownership of question. */
void queue_put_question(pf_question *question);

/* What is told one by one. A note is a block of malloc()'s that begins with the pointer to the next one. */
enum note_kind { NOTE_DNS_ANSWER, NOTE_FAILOVER, NOTE_REGISTRATION, NOTE_RESPONSE, NOTE_KINDS };

/* Takes ownership of note. */
void queue_put_note(enum note_kind kind, void *note);

/* Copies outcome. */
void queue_put_outcome(const pf_outcome *outcome);

/* Wakes the worker for what nobody waits for and it has not been woken for yet: outcomes, failovers. Every now and then. */
void queue_tick(void);

unsigned long long queue_dropped(void);

#endif
