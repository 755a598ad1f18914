/*
 * dialogs.h: remembers which server each dialog is at, as long as the dialog lives. Besides, it remembers which server
 * a Call-ID outside dialogs is bound to, so that the answer to a challenge goes to the challenger, and the refreshes
 * of a registration do not wander among equal servers.
 *
 * One mutex, no other lock taken inside. The functions are for SIP threads, unless they say otherwise.
 */
#pragma once

#include "layout.h"
#include "request_info.h"

/* Records that this response, to a request of ours, has now come from server. */
void dialogs_on_response(pjsip_rx_data *response, const pf_address *server, double now);

/*
 * Does the work of dialogs_on_response(), given what the response says; remote_tag: of its To, may be empty; expires:
 * negative where it says nothing.
 */
void dialogs_update(const pj_str_t *call_id, const pj_str_t *remote_tag, const pjsip_method *method, int code,
                    int expires, const pf_address *server, double now);

/* Returns whether that response of ours, to a request that has come in, may tell anything of a dialog. */
int dialogs_concern(const pjsip_msg *response);

/* Notes that this response of ours, which concerns dialogs, goes to server: that is where a new dialog belongs. */
void dialogs_on_own_response(const pjsip_msg *response, const pf_address *server);

/* As dialogs_on_own_response(), of what the response says; remote_tag: of its From. */
void dialogs_update_called(const pj_str_t *call_id, const pj_str_t *remote_tag, const pjsip_method *method, int code,
                           int expires, const pf_address *server);

/* Records that a BYE is sent, or has come in: its dialog ends, whether or not its answer is seen. */
void dialogs_on_bye(const pjsip_msg *bye, int incoming);

/* Does the work of dialogs_on_bye() for the dialog with that Call-ID and tag of the other side. */
void dialogs_end(const pj_str_t *call_id, const pj_str_t *remote_tag);

/* Returns whether a response with that code is a challenge. */
int dialogs_is_challenge(int code);

/*
 * Returns whether the header answers a challenge. Looks for its name: one that the application has written itself is a
 * header of no type to pjsip.
 */
int dialogs_is_credentials(const pjsip_hdr *header);

/* Fills in info by a request's Call-ID and To tag; remote_tag is NULL or empty if it has none. */
void dialogs_find(const pj_str_t *call_id, const pj_str_t *remote_tag, struct request_info *info);

/* Sets the names of the clusters whose servers take over each other's dialogs. Nothing else runs here meanwhile. */
void dialogs_set_clusters(const char (*names)[PF_MAX_HOST], int count);

/* Returns whether a request within a dialog whose next hop is that host may go to any server of it. */
int dialogs_may_move_within(const pj_str_t *name);

/* Counts the dialogs that live, and those that had to go. Any thread. */
void dialogs_count(pf_counters *counters);

/* Forgets all dialogs and bindings. Nobody is inside the gate, no lock held. */
void dialogs_clear(void);
