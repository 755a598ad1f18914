#include "dialogs.h"

#include "lock.h"
#include "text.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/*
 * Dialogs have their own room: enough for as many calls and subscriptions as one endpoint can have. Bindings of
 * Call-IDs outside dialogs have another; the least recently used binding is dropped first.
 */
enum { MAX_DIALOGS = 32768, MAX_BINDINGS = 16384 };

/* Seconds for which a challenge binds: its answer comes at once, and the registration's next refresh is free again. */
#define CHALLENGE_S 5.0

/*
 * Seconds that a dialog is kept after its end: it may have two more transactions of 32 s (timer F) each, a BYE and the
 * BYE that answers its challenge.
 */
#define ENDED_S 64.0

/* Seconds that an early dialog is kept: a ringing call repeats its 180 every minute (RFC 3261 section 13.3.1.1). */
#define EARLY_S 300.0

/* Seconds that a subscription is kept if only its NOTIFYs say how long it lasts. */
#define SUBSCRIPTION_S 86400.0

/*
 * The kinds of entries. When there is no room for a dialog, the first kind in this order that has any drops the one
 * idle for longest: calls come last, and one INVITE that a server answers by thousands of early dialogs ends none but
 * those.
 */
enum dialog_state { BINDING, ENDED, EARLY, SUBSCRIBED, CALL, STATES, NONE = STATES };

struct dialog {
    /* keyed by 64 bits of a hash of Call-ID and, except for a binding, remote tag; the hash stands for them */
    struct hash_link link;
    struct dialog *newer, *older;
    pf_address server;
    double until; /* a dialog has ended by then; a binding is only a preference from then on */
    enum dialog_state state;
};

/* Guarded by lock, but whether table is empty. The newest end of a list has the entry used last. */
static struct {
    pthread_mutex_t lock;
    struct hash_table table;
    struct dialog_list {
        struct dialog *newest, *oldest;
        unsigned count;
    } lists[STATES];
    unsigned long long forgotten;
} dialogs = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* Written while nothing runs. */
static struct {
    char names[PF_MAX_CLUSTERS][PF_MAX_HOST];
    int count;
} clusters;

/* --- entries, under dialogs.lock ------------------------------------------------------------------------------------ */

static struct dialog *dialogs_lookup_locked(uint64_t hash)
{
    struct hash_link *link = hash_table_first(&dialogs.table, hash);

    return link ? entry_of(link, struct dialog, link) : NULL;
}

static void dialogs_unlist_locked(struct dialog *dialog)
{
    struct dialog_list *list = &dialogs.lists[dialog->state];

    *(dialog->newer ? &dialog->newer->older : &list->newest) = dialog->older;
    *(dialog->older ? &dialog->older->newer : &list->oldest) = dialog->newer;
    list->count--;
}

static void dialogs_list_locked(struct dialog *dialog, enum dialog_state state)
{
    struct dialog_list *list = &dialogs.lists[state];

    dialog->state = state;
    dialog->newer = NULL;
    dialog->older = list->newest;
    *(list->newest ? &list->newest->newer : &list->oldest) = dialog;
    list->newest = dialog;
    list->count++;
}

static void dialogs_forget_locked(struct dialog *dialog)
{
    dialogs_unlist_locked(dialog);
    hash_table_remove(&dialogs.table, &dialog->link);
    free(dialog);
}

static unsigned dialogs_held_locked(void) { return (unsigned)dialogs.table.count - dialogs.lists[BINDING].count; }

/* Drops the dialogs whose time is over. In each list except that of subscriptions, the oldest one ends first. */
static void dialogs_expire_locked(double now)
{
    int state;

    for (state = ENDED; state < CALL; state++)
        while (dialogs.lists[state].oldest && dialogs.lists[state].oldest->until <= now)
            dialogs_forget_locked(dialogs.lists[state].oldest);
}

static void dialogs_make_room_locked(enum dialog_state for_state)
{
    int state = ENDED;

    if (for_state == BINDING) {
        if (dialogs.lists[BINDING].count >= MAX_BINDINGS)
            dialogs_forget_locked(dialogs.lists[BINDING].oldest);
        return;
    }
    if (dialogs_held_locked() < MAX_DIALOGS)
        return;
    while (!dialogs.lists[state].oldest)
        state++;
    dialogs_forget_locked(dialogs.lists[state].oldest);
    dialogs.forgotten++;
}

/* Makes dialog (NULL: a new one) the newest of that state. Returns NULL if there is no memory. */
static struct dialog *dialogs_put_locked(struct dialog *dialog, uint64_t hash, enum dialog_state state)
{
    if (dialog) {
        dialogs_unlist_locked(dialog);
    } else {
        dialogs_make_room_locked(state);
        dialog = calloc(1, sizeof *dialog);
        if (!dialog)
            return NULL;
        dialog->link.hash = hash;
        if (!hash_table_put(&dialogs.table, &dialog->link)) {
            free(dialog);
            return NULL;
        }
    }
    dialogs_list_locked(dialog, state);
    return dialog;
}

/* --- what a response tells --------------------------------------------------------------------------------------- */

/* What a method means for dialogs. */
enum dialog_use { NO_USE, INVITES, ENDS, IN_CALL, SUBSCRIBES, REGISTERS };

static enum dialog_use dialogs_use_of(const pjsip_method *method)
{
    static const struct {
        const char *name;
        enum dialog_use use;
    } others[] = {
        { "SUBSCRIBE", SUBSCRIBES }, { "NOTIFY", SUBSCRIBES }, { "REFER", SUBSCRIBES },  { "UPDATE", IN_CALL },
        { "INFO", IN_CALL },         { "PRACK", IN_CALL },     { "PUBLISH", REGISTERS },
    };
    size_t i;

    switch (method->id) {
    case PJSIP_INVITE_METHOD: return INVITES;
    case PJSIP_BYE_METHOD: return ENDS;
    case PJSIP_REGISTER_METHOD: return REGISTERS;
    case PJSIP_OTHER_METHOD: break;
    default: return NO_USE;
    }
    for (i = 0; i < PJ_ARRAY_SIZE(others); i++)
        if (strlen(others[i].name) == (size_t)method->name.slen &&
            !memcmp(others[i].name, method->name.ptr, (size_t)method->name.slen))
            return others[i].use;
    return NO_USE;
}

int dialogs_is_challenge(int code)
{
    return code == PJSIP_SC_UNAUTHORIZED || code == PJSIP_SC_PROXY_AUTHENTICATION_REQUIRED;
}

int dialogs_is_credentials(const pjsip_hdr *header)
{
    static const pj_str_t names[] = { { "Authorization", 13 }, { "Proxy-Authorization", 19 } };
    size_t i;

    for (i = 0; i < PJ_ARRAY_SIZE(names); i++)
        if (header->name.slen == names[i].slen && !strncasecmp(header->name.ptr, names[i].ptr, (size_t)names[i].slen))
            return 1;
    return 0;
}

/* Returns what the dialog is after that response; NONE: still none. RFC 3261 section 12, RFC 6665 section 4.4. */
static enum dialog_state dialogs_next_state(enum dialog_state state, enum dialog_use use, int code, int expires)
{
    const enum dialog_state ended = state == NONE ? NONE : ENDED;
    const int accepted = code >= 200 && code < 300;
    const int is_gone = code == PJSIP_SC_CALL_TSX_DOES_NOT_EXIST || code == PJSIP_SC_REQUEST_TIMEOUT;

    switch (use) {
    case INVITES:
        if (accepted)
            return CALL;
        if (code < 200)
            return state == CALL ? CALL : EARLY;
        return is_gone || (state == EARLY && !dialogs_is_challenge(code)) ? ended : state;
    case ENDS: return code >= 200 && !dialogs_is_challenge(code) ? ended : state;
    case IN_CALL:
        if (accepted && (state == NONE || state == ENDED))
            return CALL;
        return is_gone ? ended : state;
    case SUBSCRIBES:
        if (state == CALL || state == EARLY)
            return state; /* the subscription ends with the call */
        if (is_gone || (accepted && !expires))
            return ended;
        return accepted ? SUBSCRIBED : state;
    default: return state;
    }
}

static double dialogs_lifetime(enum dialog_state state, int expires)
{
    switch (state) {
    case ENDED: return ENDED_S;
    case EARLY: return EARLY_S;
    case SUBSCRIBED: return expires > 0 ? expires + ENDED_S : SUBSCRIPTION_S;
    default: return INFINITY;
    }
}

/* Binds the Call-ID, for the answer to a challenge or as a preference for the next refresh of a registration. */
static void dialogs_bind_locked(uint64_t hash, enum dialog_use use, int code, const pf_address *server, double now)
{
    struct dialog *binding = dialogs_lookup_locked(hash);

    if (dialogs_is_challenge(code) || use == REGISTERS) {
        binding = dialogs_put_locked(binding, hash, BINDING);
        if (binding) {
            binding->server = *server;
            binding->until = dialogs_is_challenge(code) ? now + CHALLENGE_S : 0;
        }
    } else if (binding && code >= 200) {
        dialogs_forget_locked(binding);
    }
}

/* What a response says of the dialog with that hash; ours: it is one of our own. Such a one moves no dialog to another server. */
static void dialogs_note_locked(uint64_t hash, enum dialog_use use, int code, int expires, const pf_address *server,
                                int ours, double now)
{
    struct dialog *dialog = dialogs_lookup_locked(hash);
    const enum dialog_state before = dialog ? dialog->state : NONE;
    const enum dialog_state state = dialogs_next_state(before, use, code, expires);

    if (state == NONE)
        return;
    dialog = dialogs_put_locked(dialog, hash, state);
    if (!dialog)
        return;
    if (!ours || before == NONE)
        dialog->server = *server;
    dialog->until = now + dialogs_lifetime(state, expires);
}

void dialogs_update(const pj_str_t *call_id, const pj_str_t *remote_tag, const pjsip_method *method, int code,
                    int expires, const pf_address *server, double now)
{
    const uint64_t binding = hash_text(HASH_SEED, call_id);
    HOLD_LOCK(&dialogs.lock);
    const enum dialog_use use = dialogs_use_of(method);

    dialogs_expire_locked(now);
    if (remote_tag->slen && code > 100)
        dialogs_note_locked(hash_text(binding, remote_tag), use, code, expires, server, 0, now);
    /* A challenge within a dialog of another kind binds by its Call-ID, too. */
    dialogs_bind_locked(binding, use, code, server, now);
}

void dialogs_update_called(const pj_str_t *call_id, const pj_str_t *remote_tag, const pjsip_method *method, int code,
                           int expires, const pf_address *server)
{
    HOLD_LOCK(&dialogs.lock);
    const double now = clock_now();

    dialogs_expire_locked(now);
    dialogs_note_locked(hash_text(hash_text(HASH_SEED, call_id), remote_tag), dialogs_use_of(method), code, expires,
                        server, 1, now);
}

/* The seconds in a message's Expires header; negative: there is none. */
static int dialogs_expires_of(const pjsip_msg *msg)
{
    const pjsip_expires_hdr *expires = host.pjsip_msg_find_hdr(msg, PJSIP_H_EXPIRES, NULL);

    return expires ? (int)expires->ivalue : -1;
}

void dialogs_on_response(pjsip_rx_data *response, const pf_address *server, double now)
{
    const pjsip_cid_hdr *call_id = RDATA_INFO(response)->cid;
    const pjsip_to_hdr *to = RDATA_INFO(response)->to;
    const pjsip_method *method = &RDATA_INFO(response)->cseq->method;
    pjsip_msg *msg = RDATA_INFO(response)->msg;
    const int code = msg->line.status.code;

    if (!call_id || !to ||
        (hash_table_is_empty(&dialogs.table) && dialogs_use_of(method) == NO_USE && !dialogs_is_challenge(code)))
        return;
    dialogs_update(&call_id->id, &to->tag, method, code, dialogs_expires_of(msg), server, now);
}

int dialogs_concern(const pjsip_msg *response)
{
    const pjsip_cseq_hdr *cseq = host.pjsip_msg_find_hdr(response, PJSIP_H_CSEQ, NULL);

    return response->line.status.code > 100 && cseq && dialogs_use_of(&cseq->method) != NO_USE;
}

void dialogs_on_own_response(const pjsip_msg *response, const pf_address *server)
{
    const pjsip_cid_hdr *call_id = host.pjsip_msg_find_hdr(response, PJSIP_H_CALL_ID, NULL);
    const pjsip_cseq_hdr *cseq = host.pjsip_msg_find_hdr(response, PJSIP_H_CSEQ, NULL);
    const pjsip_from_hdr *from = host.pjsip_msg_find_hdr(response, PJSIP_H_FROM, NULL);

    if (call_id && from && from->tag.slen)
        dialogs_update_called(&call_id->id, &from->tag, &cseq->method, response->line.status.code,
                              dialogs_expires_of(response), server);
}

void dialogs_end(const pj_str_t *call_id, const pj_str_t *remote_tag)
{
    HOLD_LOCK(&dialogs.lock);
    struct dialog *dialog = dialogs_lookup_locked(hash_text(hash_text(HASH_SEED, call_id), remote_tag));

    if (dialog) {
        dialogs_put_locked(dialog, dialog->link.hash, ENDED);
        dialog->until = clock_now() + ENDED_S;
    }
}

void dialogs_on_bye(const pjsip_msg *bye, int incoming)
{
    const pjsip_cid_hdr *call_id = host.pjsip_msg_find_hdr(bye, PJSIP_H_CALL_ID, NULL);
    const pjsip_fromto_hdr *remote = host.pjsip_msg_find_hdr(bye, incoming ? PJSIP_H_FROM : PJSIP_H_TO, NULL);

    if (call_id && remote && remote->tag.slen)
        dialogs_end(&call_id->id, &remote->tag);
}

void dialogs_find(const pj_str_t *call_id, const pj_str_t *remote_tag, struct request_info *info)
{
    const uint64_t binding = hash_text(HASH_SEED, call_id);
    HOLD_LOCK(&dialogs.lock);
    const double now = clock_now();
    struct dialog *dialog = NULL;

    if (remote_tag && remote_tag->slen)
        dialog = dialogs_lookup_locked(hash_text(binding, remote_tag));
    if (dialog && dialog->until > now) {
        info->bound = 1;
        if (dialog->state == CALL)
            dialogs_put_locked(dialog, dialog->link.hash, CALL);
    } else {
        dialog = dialogs_lookup_locked(binding);
        info->bound = dialog && dialog->until > now;
    }
    if (dialog)
        info->server = dialog->server;
}

void dialogs_set_clusters(const char (*names)[PF_MAX_HOST], int count)
{
    memcpy(clusters.names, names, (size_t)count * sizeof *names);
    clusters.count = count;
}

int dialogs_may_move_within(const pj_str_t *name)
{
    int i;

    for (i = 0; i < clusters.count; i++)
        if (strlen(clusters.names[i]) == (size_t)name->slen &&
            !strncasecmp(clusters.names[i], name->ptr, (size_t)name->slen))
            return 1;
    return 0;
}

void dialogs_count(pf_counters *counters)
{
    HOLD_LOCK(&dialogs.lock);
    counters->dialogs = dialogs_held_locked() - dialogs.lists[ENDED].count;
    counters->forgotten = dialogs.forgotten;
}

static void dialogs_drop(struct hash_link *link) { free(entry_of(link, struct dialog, link)); }

void dialogs_clear(void)
{
    HOLD_LOCK(&dialogs.lock);
    hash_table_clear(&dialogs.table, &dialogs_drop);
    memset(dialogs.lists, 0, sizeof dialogs.lists);
    dialogs.forgotten = 0;
}
