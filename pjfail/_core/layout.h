/*
 * layout.h: the one place that reaches into structures whose layout differs between pjproject versions:
 * pjsip_server_addresses, pjsip_tx_data, pjsip_transport, pjsip_transaction, pjsua_acc_config. host.c checks at attach that
 * they lie in the live host as they were compiled here; account.c does, for the last one, when it is needed.
 */
#ifndef PJFAIL_LAYOUT_H
#define PJFAIL_LAYOUT_H

#include "host.h"

#include <pjsua-lib/pjsua_internal.h>
#include <string.h>

/* pjsip copies its own whole structure out of what it is given, so an answer has room for the largest there is. */
enum { LAYOUT_ROOM = 32 };

typedef union answer {
    pjsip_server_addresses addresses;
    char room[sizeof(pjsip_server_addresses) +
              (LAYOUT_ROOM > PJSIP_MAX_RESOLVED_ADDRESSES ? LAYOUT_ROOM - PJSIP_MAX_RESOLVED_ADDRESSES : 0) *
                  sizeof(pjsip_server_address_record)];
} answer;

static inline unsigned answer_limit(void) { return PJSIP_MAX_RESOLVED_ADDRESSES; }

static inline unsigned answer_count(const pjsip_server_addresses *addresses) { return addresses->count; }

static inline void answer_set_count(answer *answer, unsigned count) { answer->addresses.count = count; }

static inline void answer_set(answer *answer, unsigned index, const pj_str_t *name, int type,
                              const pj_sockaddr *address, int length, unsigned priority, unsigned weight)
{
    pjsip_server_address_record *record = &answer->addresses.entry[index];

    record->name = *name;
    record->type = (pjsip_transport_type_e)type;
    record->priority = priority;
    record->weight = weight;
    record->addr = *address;
    record->addr_len = length;
}

static inline void answer_set_name(answer *answer, unsigned index, const pj_str_t *name)
{
    answer->addresses.entry[index].name = *name;
}

static inline int answer_type(const pjsip_server_addresses *addresses, unsigned index)
{
    return (int)addresses->entry[index].type;
}

static inline const pj_sockaddr *answer_address(const pjsip_server_addresses *addresses, unsigned index)
{
    return &addresses->entry[index].addr;
}

static inline void answer_copy(answer *answer, unsigned index, const pjsip_server_addresses *from, unsigned from_index)
{
    answer->addresses.entry[index] = from->entry[from_index];
}

static inline unsigned answer_priority(const pjsip_server_addresses *addresses, unsigned index)
{
    return addresses->entry[index].priority;
}

static inline int answer_length(const pjsip_server_addresses *addresses, unsigned index)
{
    return addresses->entry[index].addr_len;
}

static inline pj_pool_t *tdata_pool(const pjsip_tx_data *tdata) { return tdata->pool; }

static inline pjsip_msg *tdata_msg(const pjsip_tx_data *tdata) { return tdata->msg; }

static inline const pj_str_t *tdata_dest_name(const pjsip_tx_data *tdata) { return &tdata->dest_info.name; }

static inline const pjsip_tpselector *tdata_selector(const pjsip_tx_data *tdata) { return &tdata->tp_sel; }

static inline const pjsip_server_addresses *tdata_addresses(const pjsip_tx_data *tdata) { return &tdata->dest_info.addr; }

static inline unsigned tdata_current(const pjsip_tx_data *tdata) { return tdata->dest_info.cur_addr; }

/*
 * What is made of this message's addresses later (CANCEL, a challenge's answer) goes to that one and no other: pjsip puts TCP
 * copies of all of them in front when the message has grown too large for UDP.
 */
static inline void tdata_keep_address(pjsip_tx_data *tdata, unsigned index)
{
    tdata->dest_info.addr.entry[0] = tdata->dest_info.addr.entry[index];
    tdata->dest_info.addr.count = 1;
    tdata->dest_info.cur_addr = 0;
}

static inline const char *tdata_bytes(const pjsip_tx_data *tdata, size_t *size)
{
    *size = (size_t)(tdata->buf.cur - tdata->buf.start);
    return tdata->buf.start;
}

/* A message that only names whom a connection is for. */
typedef union stand_in {
    pjsip_tx_data tdata;
    char room[sizeof(pjsip_tx_data) + sizeof(answer)];
} stand_in;

static inline void stand_in_set_name(stand_in *stand_in, const pj_str_t *name) { stand_in->tdata.dest_info.name = *name; }

/* Where the message is being sent right now: valid in on_tx_request(). */
static inline pjsip_transport *tdata_transport(const pjsip_tx_data *tdata) { return tdata->tp_info.transport; }

static inline const pj_sockaddr *tdata_destination(const pjsip_tx_data *tdata) { return &tdata->tp_info.dst_addr; }

static inline int transport_type(const pjsip_transport *transport) { return transport->key.type; }

static inline const pj_sockaddr *transport_peer(const pjsip_transport *transport) { return &transport->key.rem_addr; }

static inline int transport_is_closing(const pjsip_transport *transport) { return transport->is_shutdown; }

static inline int transport_is_outgoing(const pjsip_transport *transport)
{
    return transport->dir == PJSIP_TP_DIR_OUTGOING;
}

/* --- transactions, under their lock ------------------------------------------------------------------------------ */

static inline pj_grp_lock_t *tsx_lock(const pjsip_transaction *tsx) { return tsx->grp_lock; }

/* Its request is on its way: with a provisional answer at the most. */
static inline int tsx_is_open(const pjsip_transaction *tsx)
{
    return (tsx->state == PJSIP_TSX_STATE_CALLING || tsx->state == PJSIP_TSX_STATE_PROCEEDING) && tsx->last_tx;
}

static inline int tsx_is_unanswered(const pjsip_transaction *tsx)
{
    return tsx->state <= PJSIP_TSX_STATE_CALLING && tsx->last_tx;
}

static inline pjsip_tx_data *tsx_last_sent(const pjsip_transaction *tsx) { return tsx->last_tx; }

static inline pjsip_transport *tsx_transport(const pjsip_transaction *tsx) { return tsx->transport; }

/* From now on the end of its transport does not end it: who calls this sees to that. */
static inline void tsx_unlisten(pjsip_transaction *tsx)
{
    if (tsx->transport && tsx->tp_st_key)
        host.pjsip_transport_remove_state_listener(tsx->transport, tsx->tp_st_key, tsx);
    tsx->tp_st_key = NULL;
}

/* What it sends from now on, retransmissions and ACK, goes there. */
static inline void tsx_move(pjsip_transaction *tsx, pjsip_transport *transport, const pj_sockaddr *address, int length)
{
    if (tsx->transport != transport) {
        pjsip_transport *old = tsx->transport;

        tsx_unlisten(tsx);
        host.pjsip_transport_add_ref(transport);
        tsx->transport = transport;
        if (old)
            host.pjsip_transport_dec_ref(old);
    }
    tsx->addr = *address;
    tsx->addr_len = length;
}

/* Whether pjsua's own state is at hand, and lies as it was compiled here: it is the same in all versions. */
static inline int pjsua_state_is_known(void)
{
    return host.pjsua_var && ((const struct pjsua_data *)host.pjsua_var)->endpt == host.pjsua_get_pjsip_endpt();
}

/* The lock of pjsua's that guards its accounts, recursive; NULL: not known. */
static inline pj_mutex_t *pjsua_mutex(void)
{
    return pjsua_state_is_known() ? ((const struct pjsua_data *)host.pjsua_var)->mutex : NULL;
}

/* What pjsua found in the slot of the transport state callback and calls; NULL: nothing, or not known. */
static inline pjsip_tp_state_callback pjsua_found_callback(void)
{
    pjsip_tp_state_callback found;
    void *address;

    if (!pjsua_state_is_known())
        return NULL;
    memcpy(&found, (const char *)host.pjsua_var + offsetof(struct pjsua_data, old_tp_cb), sizeof found);
    memcpy(&address, &found, sizeof address);
    return found && host_has(address) ? found : NULL;
}

/* --- accounts --------------------------------------------------------------------------------------------------- */

/* The pj_status_t of a transaction that its transport ended; the event itself carries a message there, no status. */
static inline pj_status_t transaction_error(const pjsip_transaction *tsx) { return tsx->transport_err; }

/* Room for the host's own pjsua_acc_config, should it be larger than ours: account.c finds out. */
typedef union account_config {
    pjsua_acc_config config;
    char room[2 * sizeof(pjsua_acc_config)];
} account_config;

#ifdef PJSUA_ACC_SERVER_AFFINITY_DEFAULT    /* after pjproject 2.17 */

static inline int config_affinity(const account_config *config)
{
    switch (config->config.server_affinity) {
    case PJSUA_SERVER_AFFINITY_ENABLED: return 1;
    case PJSUA_SERVER_AFFINITY_DISABLED: return 0;
    default: return -1;
    }
}

#else

static inline int config_affinity(const account_config *config)
{
    (void)config;
    return 0;
}

#endif

#endif
