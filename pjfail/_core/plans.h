/*
 * plans.h: the plans that Python has published, and the order of each use of a plan.
 *
 * The plans share the mutex of servers.c, which is held for a lookup and the drawing of an order; no other lock is
 * taken and no callback called inside. Any thread may call these functions.
 */
#pragma once

#include "layout.h"
#include "pjfail.h"
#include "request_info.h"

/* Added in an answer to the priority of a plan's last resorts (pf_entry); above any tier. */
enum { LAST_RESORT = 0x10000 };

/* What it adds to those of UDP servers, for a request that is too large for UDP: TCP copies of them come before. */
enum { TOO_LARGE = 0x8000 };

enum plan_found { PLAN_NONE, PLAN_STALE, PLAN_FRESH };

/*
 * Writes the plan's servers, in the order of this use, to addresses, at most addresses_limit(), each with this name.
 * Uses a plan that is too old only if stale is set. Sets *refresh, once for each plan, if the plan should soon be made
 * anew.
 */
enum plan_found plans_answer(const pf_target *target, uint64_t hash, const struct request_info *info,
                             const pj_str_t *name, int stale, server_addresses *addresses, int *refresh);

/*
 * Makes entries the plan of target, see pf_publish(). Returns 0 if there is no memory, -1 if they are not a valid
 * plan.
 */
int plans_publish(const pf_target *target, const pf_entry *entries, int count, int drawn, double refresh_at,
                  double fresh_until);

/* Makes a plan that only one request goes by, in no table; NULL: no memory. The caller drops it. */
struct plan *plans_make(const pf_target *target, const pf_entry *entries, int count);

/* Writes the servers of that plan, as plans_answer() does. */
void plans_answer_by(const struct plan *plan, const struct request_info *info, const pj_str_t *name,
                     server_addresses *addresses);

/* Frees a plan that plans_make() has made; NULL: does nothing. */
void plans_drop(struct plan *plan);

/* Returns whether there is a plan, however old. */
int plans_have(const pf_target *target, uint64_t hash);

/* Returns whether plans answer for the host at this address and port (0: none named), see pf_answer_for(). */
int plans_answer_for(const pf_address *at);

/* Returns how many plans are published. */
unsigned long long plans_count(void);

/* Forgets all plans. Nobody is inside the gate, no lock held. */
void plans_clear(void);
