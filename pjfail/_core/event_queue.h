/*
 * event_queue.h: what pjsip's threads report to the worker: queries, outcomes in batches, other events one by one.
 *
 * Any thread may post; only the worker fetches. One mutex, held for a few instructions; no other is taken inside.
 *
 * If the worker does not fetch, 4096 events of each kind are kept (of held responses that it is asked about, 256), and
 * the dropped ones are counted. Never dropped are a query that a request waits for, an answer that Python asked for, and
 * the latest registration of each account.
 */
#pragma once

#include "pjfail.h"

/*
 * Begins to take events. begin_ticks: has event_queue_tick() called soon. Returns 0 when there is no event descriptor,
 * see errno. Attaching thread.
 */
int event_queue_open(void (*begin_ticks)(void));

/* Drops what nobody has fetched. Detaching thread. */
void event_queue_close(void);

/* Takes ownership of query. */
void event_queue_post_query(pf_query *query);

/* Events that are fetched one by one. An event is a malloc() block that begins with the pointer to the next one. */
enum event_kind {
    EVENT_DNS_ANSWER,
    EVENT_FAILOVER,
    EVENT_REGISTRATION,
    EVENT_RESPONSE,
    EVENT_RULING,
    EVENT_STANDBY,
    EVENT_ACCOUNT,
    EVENT_CALL,
    EVENT_KINDS
};

/* Takes ownership of event. Returns 0 where there is no room for it. No lock of ours held for a failover. */
int event_queue_post(enum event_kind kind, void *event);

/* Copies outcome. No lock of ours held. */
void event_queue_post_outcome(const pf_outcome *outcome);

/*
 * Wakes the worker for events that nothing waits for (outcomes, failovers), if it has not been woken for them. Call it
 * regularly.
 */
void event_queue_tick(void);

/* Returns whether such events wait for event_queue_tick(). */
int event_queue_has_news(void);

/* Returns how many events were dropped. */
unsigned long long event_queue_dropped(void);
