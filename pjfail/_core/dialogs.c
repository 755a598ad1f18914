#include "dialogs.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* The oldest is forgotten for the newest: enough for as many calls as one endpoint can hold. */
enum { ROOM = 16384 };

/* How long a challenge binds: its answer comes at once, and the registration's next refresh is free again. */
#define CHALLENGE_SECONDS 5.0

struct dialog {
    struct link link;           /* by 64 bits of the Call-ID's hash, which stand for the Call-ID */
    struct dialog *newer, *older;
    pf_address server;
    double challenged_at;       /* its last answer was a challenge; else negative */
};

/* Guarded by lock. */
static struct {
    pthread_mutex_t lock;
    struct table table;
    struct dialog *newest, *oldest;
} self = { .lock = PTHREAD_MUTEX_INITIALIZER };

static uint64_t hash_of(const pj_str_t *call_id) { return hash_bytes(HASH_SEED, call_id->ptr, (size_t)call_id->slen); }

static struct dialog *find(uint64_t hash)
{
    struct link *link = table_first(&self.table, hash);

    return link ? entry_of(link, struct dialog, link) : NULL;
}

static void unlink_age(struct dialog *dialog)
{
    *(dialog->newer ? &dialog->newer->older : &self.newest) = dialog->older;
    *(dialog->older ? &dialog->older->newer : &self.oldest) = dialog->newer;
}

static void make_newest(struct dialog *dialog)
{
    dialog->newer = NULL;
    dialog->older = self.newest;
    *(self.newest ? &self.newest->newer : &self.oldest) = dialog;
    self.newest = dialog;
}

/* What has a Call-ID that comes again: a dialog, a subscription, a registration; and whatever was challenged. */
static int comes_again(pjsip_method_e method, int code)
{
    return code == 401 || code == 407 || method == PJSIP_INVITE_METHOD || method == PJSIP_REGISTER_METHOD ||
           method == PJSIP_OTHER_METHOD;
}

void dialogs_note(const pj_str_t *call_id, pjsip_method_e method, int code, const pf_address *server)
{
    uint64_t hash = hash_of(call_id);
    struct dialog *dialog, *spare = NULL;

    pthread_mutex_lock(&self.lock);
    dialog = find(hash);
    if (dialog) {
        unlink_age(dialog);
    } else if (comes_again(method, code)) {
        if (self.table.count >= ROOM) {
            dialog = self.oldest;
            unlink_age(dialog);
            table_remove(&self.table, &dialog->link);
        } else {
            dialog = calloc(1, sizeof *dialog);
        }
        if (dialog) {
            dialog->link.hash = hash;
            if (!table_put(&self.table, &dialog->link)) {
                spare = dialog;
                dialog = NULL;
            }
        }
    }
    if (dialog) {
        dialog->server = *server;
        dialog->challenged_at = code == 401 || code == 407 ? host_now() : -CHALLENGE_SECONDS;
        make_newest(dialog);
    }
    pthread_mutex_unlock(&self.lock);
    free(spare);
}

void dialogs_find(const pj_str_t *call_id, int in_dialog, struct asker *asker)
{
    struct dialog *dialog;

    pthread_mutex_lock(&self.lock);
    dialog = find(hash_of(call_id));
    if (dialog) {
        asker->server = dialog->server;
        asker->bound = in_dialog || host_now() < dialog->challenged_at + CHALLENGE_SECONDS;
    }
    pthread_mutex_unlock(&self.lock);
}

static void drop(struct link *link) { free(entry_of(link, struct dialog, link)); }

void dialogs_clear(void)
{
    pthread_mutex_lock(&self.lock);
    table_clear(&self.table, &drop);
    self.newest = self.oldest = NULL;
    pthread_mutex_unlock(&self.lock);
}
