/*
 * layout.h: the one place that reaches into structures whose layout differs between pjproject versions:
 * pjsip_server_addresses, pjsip_tx_data, pjsip_transport, pjsua_acc_config. host.c checks at attach that they lie in the
 * live host as they were compiled here; account.c does, for the last one, when it is needed.
 */
#ifndef PJFAIL_LAYOUT_H
#define PJFAIL_LAYOUT_H

#include "host.h"

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

static inline int answer_length(const pjsip_server_addresses *addresses, unsigned index)
{
    return addresses->entry[index].addr_len;
}

static inline pj_pool_t *tdata_pool(const pjsip_tx_data *tdata) { return tdata->pool; }

static inline pjsip_msg *tdata_msg(const pjsip_tx_data *tdata) { return tdata->msg; }

static inline const pj_str_t *tdata_dest_name(const pjsip_tx_data *tdata) { return &tdata->dest_info.name; }

static inline const pjsip_tpselector *tdata_selector(const pjsip_tx_data *tdata) { return &tdata->tp_sel; }

/* Where the message is being sent right now: valid in on_tx_request(). */
static inline pjsip_transport *tdata_transport(const pjsip_tx_data *tdata) { return tdata->tp_info.transport; }

static inline const pj_sockaddr *tdata_destination(const pjsip_tx_data *tdata) { return &tdata->tp_info.dst_addr; }

static inline void tdata_set_dest_name(pjsip_tx_data *tdata, const pj_str_t *name) { tdata->dest_info.name = *name; }

static inline int transport_type(const pjsip_transport *transport) { return transport->key.type; }

static inline const pj_sockaddr *transport_peer(const pjsip_transport *transport) { return &transport->key.rem_addr; }

static inline int transport_is_outgoing(const pjsip_transport *transport)
{
    return transport->dir == PJSIP_TP_DIR_OUTGOING;
}

static inline int transaction_status(const pjsip_transaction *tsx) { return tsx->status_code; }

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

static inline void config_enable_affinity(account_config *config)
{
    config->config.server_affinity = PJSUA_SERVER_AFFINITY_ENABLED;
}

#else

static inline int config_affinity(const account_config *config)
{
    (void)config;
    return 0;
}

static inline void config_enable_affinity(account_config *config) { (void)config; }

#endif

#endif
