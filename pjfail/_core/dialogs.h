/*
 * dialogs.h: which server a Call-ID belongs to, so that a challenge's answer goes to the challenger, a dialog stays with its
 * server, and a registration's refreshes do not wander among servers of equal rank.
 *
 * One mutex, nothing taken inside. SIP threads call note and find.
 */
#ifndef PJFAIL_DIALOGS_H
#define PJFAIL_DIALOGS_H

#include "plans.h"

/* A response of the server to the request with this Call-ID came. */
void dialogs_note(const pj_str_t *call_id, pjsip_method_e method, int code, const pf_address *server);

/* Fills in asker from what is known of the request's Call-ID; in_dialog: it has a To tag. */
void dialogs_find(const pj_str_t *call_id, int in_dialog, struct asker *asker);

void dialogs_clear(void);

#endif
