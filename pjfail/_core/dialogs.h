/*
 * dialogs.h: remembers which server each dialog is at, as long as the dialog lives. Besides, it remembers which server
 * a Call-ID outside dialogs is bound to, so that the answer to a challenge goes to the challenger, and the refreshes
 * of a registration do not wander among equal servers.
 *
 * One mutex, no other lock taken inside. All functions are for SIP threads.
 */
#pragma once

#include "layout.h"
#include "request_info.h"

/* Records that this response, to a request of ours, came from server. */
void dialogs_on_response(pjsip_rx_data *response, const pf_address *server);

/*
 * Like dialogs_on_response(), with the response's values: remote_tag is that of its To, may be empty; expires is
 * negative if there is none.
 */
void dialogs_update(const pj_str_t *call_id, const pj_str_t *remote_tag, const pjsip_method *method, int code,
                    int expires, const pf_address *server);

/* Records that a BYE is sent, or has come in: its dialog ends, whether or not its answer is seen. */
void dialogs_on_bye(const pjsip_msg *bye, int incoming);

/* Like dialogs_on_bye(), for the dialog with that Call-ID and remote tag. */
void dialogs_end(const pj_str_t *call_id, const pj_str_t *remote_tag);

/* Fills in info by a request's Call-ID and To tag; remote_tag is NULL or empty if it has none. */
void dialogs_find(const pj_str_t *call_id, const pj_str_t *remote_tag, struct request_info *info);

void dialogs_count(pf_counters *counters);
void dialogs_clear(void);
