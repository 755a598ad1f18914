/*
 * layout.h: the one place that reaches into structures whose layout differs between pjproject versions:
 * pjsip_server_addresses, pjsip_tx_data, pjsip_transport, pjsip_transaction, pjsip_rx_data, pjsua_acc_config, pjsua_acc_info.
 * What is the same in all of them is read as it was compiled here, the rest by the offsets of layout.c's table, which are checked
 * at attach against the live host. All other structures that pjfail touches are the same in every version that the table knows;
 * of pjsua_config that is the beginning, and its place in pjsua's state is looked for.
 */
#pragma once

#include "host.h"

#include <pjsua-lib/pjsua_internal.h>
#include <stddef.h>
#include <string.h>

/*
 * What differs between versions, each a column of the table: offsets and sizes in octets. Offsets within a record
 * count from its beginning.
 */
/* clang-format off */
#define LAYOUT_FIELDS(FIELD)                                                                                      \
    FIELD(addresses_entry) FIELD(record_size) FIELD(record_type) FIELD(record_priority) FIELD(record_weight)      \
    FIELD(record_addr) FIELD(record_addr_len)                                                                     \
    FIELD(transport_dir) FIELD(transport_tpmgr)                                                                   \
    FIELD(tsx_branch) FIELD(tsx_state) FIELD(tsx_transport) FIELD(tsx_is_reliable) FIELD(tsx_addr)                \
    FIELD(tsx_addr_len) FIELD(tsx_transport_err) FIELD(tsx_tp_st_key) FIELD(tsx_last_tx)                          \
    FIELD(tsx_retransmit_timer)                                                                                   \
    FIELD(config_proxy_cnt) FIELD(config_proxy) FIELD(config_proxies) FIELD(config_reg_timeout)                   \
    FIELD(config_auth_pref) FIELD(config_cred_count) FIELD(config_cred_info)                                      \
    FIELD(config_credential) FIELD(config_transport_id) FIELD(config_server_affinity)
/* clang-format on */

/* No such member in that version. */
#define LAYOUT_NONE 0u

struct layout_row {
    const char *name;
    unsigned first, last; /* as PJ_VERSION_NUM has them */
    const char *extra;    /* as PJ_VERSION_NUM_EXTRA has it: "-dev" is another version */
#define FIELD(name) unsigned name;
    LAYOUT_FIELDS(FIELD)
#undef FIELD
};

/* The layout of the loaded pjsip; written while attaching, if it is another one than before. */
struct layout {
    struct layout_row row;
    unsigned addresses;                                                       /* PJSIP_MAX_RESOLVED_ADDRESSES */
    unsigned tdata_cur_addr, tdata_transport, tdata_dst_addr, tdata_selector; /* these follow from it */
    ptrdiff_t rdata_shift; /* by so much later than compiled here lies what follows a packet: PJSIP_MAX_PKT_LEN */
    unsigned proxies;      /* PJSUA_ACC_MAX_PROXIES; 0: pjsua_acc_config could not be made out */
    unsigned config_cred_count, config_cred_info, config_transport_id, config_server_affinity;
    unsigned keys; /* PJSIP_MAX_TRANSPORTS: how many keys the endpoint's ioqueue bears; 0: it could not be made out */
    unsigned ioqueue_count;    /* where an ioqueue has how many are in use */
    unsigned nameserver_count; /* where pjsua's state has ua_cfg.nameserver_count; 0: it could not be made out */
};

extern struct layout layout;

/*
 * Finds the layout of this endpoint's pjsip and stores it. Returns NULL, or the name of the structure that lies
 * differently. While attaching.
 */
const char *layout_find(pjsip_endpoint *endpt, const char *version);

#define LAYOUT_AT(type, base, offset) (*(type *)((char *)(base) + (offset)))
#define LAYOUT_READ(type, base, offset) (*(type const *)((const char *)(base) + (offset)))

/* --- answers to "which server?" ---------------------------------------------------------------------------------- */

/* pjsip copies its own whole structure from the answer, so an answer has room for the largest there is. */
enum {
    LAYOUT_ROOM = 32,
    LAYOUT_RECORD = sizeof(pjsip_server_address_record) > 64 ? sizeof(pjsip_server_address_record) : 64
};

typedef union server_addresses {
    pjsip_server_addresses addresses;
    char room[offsetof(pjsip_server_addresses, entry) + 16 + LAYOUT_ROOM * LAYOUT_RECORD];
} server_addresses;

static inline unsigned addresses_limit(void) { return layout.addresses; }

static inline unsigned addresses_count(const pjsip_server_addresses *addresses) { return addresses->count; }

static inline void addresses_set_count(server_addresses *addresses, unsigned count)
{
    addresses->addresses.count = count;
}

static inline unsigned addresses_record(unsigned index)
{
    return layout.row.addresses_entry + index * layout.row.record_size;
}

/* Records have a name since 2.16, in front of the type. */
static inline void addresses_set_name(server_addresses *addresses, unsigned index, const pj_str_t *name)
{
    if (layout.row.record_type)
        LAYOUT_AT(pj_str_t, addresses, addresses_record(index)) = *name;
}

static inline void addresses_set(server_addresses *addresses, unsigned index, const pj_str_t *name, int type,
                                 const pj_sockaddr *address, int length, unsigned priority, unsigned weight)
{
    char *record = (char *)addresses + addresses_record(index);

    addresses_set_name(addresses, index, name);
    LAYOUT_AT(pjsip_transport_type_e, record, layout.row.record_type) = (pjsip_transport_type_e)type;
    LAYOUT_AT(unsigned, record, layout.row.record_priority) = priority;
    LAYOUT_AT(unsigned, record, layout.row.record_weight) = weight;
    LAYOUT_AT(pj_sockaddr, record, layout.row.record_addr) = *address;
    LAYOUT_AT(int, record, layout.row.record_addr_len) = length;
}

static inline int addresses_type(const pjsip_server_addresses *addresses, unsigned index)
{
    return (int)LAYOUT_READ(pjsip_transport_type_e, addresses, addresses_record(index) + layout.row.record_type);
}

/*
 * If a UDP server is first, puts a record in front that pjsip cannot send to and walks on from. Of a large request whose first server speaks UDP, pjsip tries
 * TCP copies before (sip_util.c, stateless_send_resolver_callback()); it does not where something else is the first.
 */
static inline void addresses_keep_udp(server_addresses *addresses)
{
    char *first = (char *)addresses + addresses_record(0);
    unsigned count = addresses->addresses.count;

    if ((addresses_type(&addresses->addresses, 0) & ~PJSIP_TRANSPORT_IPV6) != PJSIP_TRANSPORT_UDP)
        return;
    if (count == addresses_limit())
        count--;
    memmove(first + layout.row.record_size, first, count * layout.row.record_size);
    LAYOUT_AT(pjsip_transport_type_e, first, layout.row.record_type) = PJSIP_TRANSPORT_UNSPECIFIED;
    addresses->addresses.count = count + 1;
}

static inline const pj_sockaddr *addresses_address(const pjsip_server_addresses *addresses, unsigned index)
{
    return &LAYOUT_READ(pj_sockaddr, addresses, addresses_record(index) + layout.row.record_addr);
}

static inline void addresses_copy(server_addresses *addresses, unsigned index, const pjsip_server_addresses *from,
                                  unsigned from_index)
{
    memcpy((char *)addresses + addresses_record(index), (const char *)from + addresses_record(from_index),
           layout.row.record_size);
}

static inline unsigned addresses_priority(const pjsip_server_addresses *addresses, unsigned index)
{
    return LAYOUT_READ(unsigned, addresses, addresses_record(index) + layout.row.record_priority);
}

static inline int addresses_length(const pjsip_server_addresses *addresses, unsigned index)
{
    return LAYOUT_READ(int, addresses, addresses_record(index) + layout.row.record_addr_len);
}

/* --- the ioqueue ------------------------------------------------------------------------------------------------- */

/*
 * Returns how many keys are in use, if layout.keys is known. Reads without pjsip's lock, which is out of reach: an
 * estimate.
 */
__attribute__((no_sanitize("thread"))) static inline unsigned ioqueue_used(const pj_ioqueue_t *ioqueue)
{
    return *(const volatile unsigned *)((const char *)ioqueue + layout.ioqueue_count);
}

/* --- messages ---------------------------------------------------------------------------------------------------- */

static inline pj_pool_t *tdata_pool(const pjsip_tx_data *tdata) { return tdata->pool; }

static inline pjsip_msg *tdata_msg(const pjsip_tx_data *tdata) { return tdata->msg; }

static inline const pj_str_t *tdata_dest_name(const pjsip_tx_data *tdata) { return &tdata->dest_info.name; }

static inline const pjsip_tpselector *tdata_selector(const pjsip_tx_data *tdata)
{
    return &LAYOUT_READ(pjsip_tpselector, tdata, layout.tdata_selector);
}

static inline const pjsip_server_addresses *tdata_addresses(const pjsip_tx_data *tdata)
{
    return &tdata->dest_info.addr;
}

static inline unsigned tdata_current(const pjsip_tx_data *tdata)
{
    return LAYOUT_READ(unsigned, tdata, layout.tdata_cur_addr);
}

/*
 * Keeps one address of the message, so that what is made of its addresses later (CANCEL, the answer to a challenge)
 * goes there only: pjsip puts TCP copies of all addresses in front when the message has grown too large for UDP.
 */
static inline void tdata_set_only_address(pjsip_tx_data *tdata, int type, const pj_sockaddr *address, int length)
{
    unsigned place = addresses_type(&tdata->dest_info.addr, 0) == PJSIP_TRANSPORT_UNSPECIFIED;
    char *record = (char *)&tdata->dest_info.addr + addresses_record(place);

    LAYOUT_AT(pjsip_transport_type_e, record, layout.row.record_type) = (pjsip_transport_type_e)type;
    LAYOUT_AT(pj_sockaddr, record, layout.row.record_addr) = *address;
    LAYOUT_AT(int, record, layout.row.record_addr_len) = length;
    tdata->dest_info.addr.count = place + 1;
    LAYOUT_AT(unsigned, tdata, layout.tdata_cur_addr) = place;
}

static inline const char *tdata_bytes(const pjsip_tx_data *tdata, size_t *size)
{
    *size = (size_t)(tdata->buf.cur - tdata->buf.start);
    return tdata->buf.start;
}

/* A message that only names the host that a connection is for. */
typedef union dummy_tdata {
    pjsip_tx_data tdata;
    char room[sizeof(pjsip_tx_data) + sizeof(server_addresses)];
} dummy_tdata;

static inline void dummy_tdata_set_name(dummy_tdata *dummy_tdata, const pj_str_t *name)
{
    dummy_tdata->tdata.dest_info.name = *name;
}

/* Returns the transport that the message is being sent over: valid in on_tx_request(). */
static inline pjsip_transport *tdata_transport(const pjsip_tx_data *tdata)
{
    return LAYOUT_READ(pjsip_transport *, tdata, layout.tdata_transport);
}

static inline const pj_sockaddr *tdata_destination(const pjsip_tx_data *tdata)
{
    return &LAYOUT_READ(pj_sockaddr, tdata, layout.tdata_dst_addr);
}

/*
 * Writes the server that answered into the message, where pjsip's own affinity (after 2.17) reads where to keep the
 * account.
 */
static inline void tdata_set_destination(pjsip_tx_data *tdata, const pj_sockaddr *address, int length)
{
    enum { LENGTH = offsetof(pjsip_tx_data, tp_info.dst_addr_len) - offsetof(pjsip_tx_data, tp_info.dst_addr) };

    LAYOUT_AT(pj_sockaddr, tdata, layout.tdata_dst_addr) = *address;
    LAYOUT_AT(int, tdata, layout.tdata_dst_addr + LENGTH) = length;
}

static inline void tdata_set_transport(pjsip_tx_data *tdata, pjsip_transport *transport)
{
    LAYOUT_AT(pjsip_transport *, tdata, layout.tdata_transport) = transport;
}

/*
 * Copies into the message's own pool what its Via borrows from the transport that sent it (stateless_send_transport_cb()): ACK,
 * CANCEL and the answer to a challenge are made of it, when that transport may be gone. tdata->via_addr has the same text; what an
 * application has put there is its own.
 */
static inline void tdata_own_via(pjsip_tx_data *tdata)
{
    enum { AFTER_MODULES = offsetof(pjsip_tx_data, via_addr) - offsetof(pjsip_tx_data, tp_sel) };
    pjsip_via_hdr *via = host.pjsip_msg_find_hdr(tdata_msg(tdata), PJSIP_H_VIA, NULL);
    pj_str_t *copied = &LAYOUT_AT(pj_str_t, tdata, layout.tdata_selector + AFTER_MODULES), borrowed;
    char *own;

    if (!via || !via->sent_by.host.slen)
        return;
    borrowed = via->sent_by.host;
    own = host.pj_pool_alloc(tdata_pool(tdata), (pj_size_t)borrowed.slen);
    if (!own)
        return;
    memcpy(own, borrowed.ptr, (size_t)borrowed.slen);
    via->sent_by.host.ptr = own;
    if (copied->ptr == borrowed.ptr && copied->slen == borrowed.slen)
        copied->ptr = own;
}

/* What the message's Via says, for who makes another of it (CANCEL), once it names another transport. */
static inline void tdata_set_via(pjsip_tx_data *tdata, const pjsip_host_port *sent_by, const pjsip_transport *transport)
{
    enum { AFTER_MODULES = offsetof(pjsip_tx_data, via_addr) - offsetof(pjsip_tx_data, tp_sel) };
    enum { TO_TRANSPORT = offsetof(pjsip_tx_data, via_tp) - offsetof(pjsip_tx_data, via_addr) };

    LAYOUT_AT(pjsip_host_port, tdata, layout.tdata_selector + AFTER_MODULES) = *sent_by;
    LAYOUT_AT(const void *, tdata, layout.tdata_selector + AFTER_MODULES + TO_TRANSPORT) = transport;
}

/*
 * Where a received message came from, and what it says. Both follow the packet, which is as large as the loaded pjsip
 * has it.
 */
#define RDATA_SOURCE(rdata) (&rdata_shifted(rdata)->pkt_info.src_addr)
#define RDATA_INFO(rdata) (&rdata_shifted(rdata)->msg_info)

static inline const pjsip_rx_data *rdata_shifted(const pjsip_rx_data *rdata)
{
    return (const pjsip_rx_data *)((const char *)rdata + layout.rdata_shift);
}

/* --- transports -------------------------------------------------------------------------------------------------- */

static inline int transport_type(const pjsip_transport *transport) { return transport->key.type; }

static inline int transport_is_udp(const pjsip_transport *transport)
{
    return (transport_type(transport) & ~PJSIP_TRANSPORT_IPV6) == PJSIP_TRANSPORT_UDP;
}

static inline const pj_sockaddr *transport_peer(const pjsip_transport *transport) { return &transport->key.rem_addr; }

/* What a Via names it by: the same distance from the direction in every version. */
static inline const pjsip_host_port *transport_local_name(const pjsip_transport *transport)
{
    enum { NAME_TO_DIR = offsetof(pjsip_transport, dir) - offsetof(pjsip_transport, local_name) };

    return &LAYOUT_READ(pjsip_host_port, transport, layout.row.transport_dir - NAME_TO_DIR);
}

/* Its own address: that of its connection, or its socket's. */
static inline const pj_sockaddr *transport_local_address(const pjsip_transport *transport)
{
    return &transport->local_addr;
}

static inline int transport_is_closing(const pjsip_transport *transport) { return transport->is_shutdown; }

static inline int transport_is_outgoing(const pjsip_transport *transport)
{
    return LAYOUT_READ(pjsip_transport_dir, transport, layout.row.transport_dir) == PJSIP_TP_DIR_OUTGOING;
}

/*
 * Returns whether anything has been received over the transport; the members between these two are alike from 2.14.1
 * on. Reads without pjsip's lock.
 */
__attribute__((no_sanitize("thread"))) static inline int transport_has_received(const pjsip_transport *transport)
{
    enum { TPMGR_TO_LENGTH = offsetof(pjsip_transport, last_recv_len) - offsetof(pjsip_transport, tpmgr) };

    return *(const volatile pj_size_t *)((const char *)transport + layout.row.transport_tpmgr + TPMGR_TO_LENGTH) != 0;
}

static inline pjsip_tpmgr *transport_manager(const pjsip_transport *transport)
{
    return LAYOUT_READ(pjsip_tpmgr *, transport, layout.row.transport_tpmgr);
}

/* --- transactions, under their lock ------------------------------------------------------------------------------ */

static inline pj_grp_lock_t *tsx_lock(const pjsip_transaction *tsx) { return tsx->grp_lock; }

static inline pjsip_tsx_state_e tsx_state(const pjsip_transaction *tsx)
{
    return LAYOUT_READ(pjsip_tsx_state_e, tsx, layout.row.tsx_state);
}

static inline pjsip_tx_data *tsx_last_sent(const pjsip_transaction *tsx)
{
    return LAYOUT_READ(pjsip_tx_data *, tsx, layout.row.tsx_last_tx);
}

/* Returns whether the transaction's request is under way, with no more than a provisional answer. */
static inline int tsx_is_open(const pjsip_transaction *tsx)
{
    return (tsx_state(tsx) == PJSIP_TSX_STATE_CALLING || tsx_state(tsx) == PJSIP_TSX_STATE_PROCEEDING) &&
           tsx_last_sent(tsx);
}

static inline int tsx_awaits_final(const pjsip_transaction *tsx)
{
    return tsx_state(tsx) <= PJSIP_TSX_STATE_PROCEEDING && tsx_last_sent(tsx);
}

/* Whether the call of this session was hung up: pjsip sets that under the dialog's lock, and we only look. */
__attribute__((no_sanitize("thread"))) static inline int session_is_hung_up(const pjsip_inv_session *session)
{
    return *(const volatile pj_bool_t *)&session->cancelling;
}

static inline pjsip_transport *tsx_transport(const pjsip_transaction *tsx)
{
    return LAYOUT_READ(pjsip_transport *, tsx, layout.row.tsx_transport);
}

/* Returns where the transaction keeps its entry in its transport's list of listeners; *: NULL if it is in none. */
static inline pjsip_tp_state_listener_key **tsx_listener_key(pjsip_transaction *tsx)
{
    return &LAYOUT_AT(pjsip_tp_state_listener_key *, tsx, layout.row.tsx_tp_st_key);
}

static inline void tsx_set_transport(pjsip_transaction *tsx, pjsip_transport *transport)
{
    LAYOUT_AT(pjsip_transport *, tsx, layout.row.tsx_transport) = transport;
}

static inline const pj_sockaddr *tsx_address(const pjsip_transaction *tsx)
{
    return &LAYOUT_READ(pj_sockaddr, tsx, layout.row.tsx_addr);
}

/* From now on pjsip repeats nothing of it, and takes its responses not to be repeated. */
static inline void tsx_set_reliable(pjsip_transaction *tsx)
{
    LAYOUT_AT(pj_bool_t, tsx, layout.row.tsx_is_reliable) = PJ_TRUE;
}

static inline pj_timer_entry *tsx_retransmit_timer(pjsip_transaction *tsx)
{
    return &LAYOUT_AT(pj_timer_entry, tsx, layout.row.tsx_retransmit_timer);
}

static inline void tsx_set_address(pjsip_transaction *tsx, const pj_sockaddr *address, int length)
{
    LAYOUT_AT(pj_sockaddr, tsx, layout.row.tsx_addr) = *address;
    LAYOUT_AT(int, tsx, layout.row.tsx_addr_len) = length;
}

/*
 * Returns whether a message of it has not been sent yet, as far as pjsip's own callback knows (TSX_HAS_PENDING_TRANSPORT of
 * sip_transaction.c; the member before transport_err). Read without its lock.
 */
__attribute__((no_sanitize("thread"))) static inline int tsx_is_sending(const pjsip_transaction *tsx)
{
    enum { FLAG_TO_ERROR = offsetof(pjsip_transaction, transport_err) - offsetof(pjsip_transaction, transport_flag) };

    return (int)(*(const volatile unsigned *)((const char *)tsx + layout.row.tsx_transport_err - FLAG_TO_ERROR) & 1u);
}

/* The pj_status_t of a transaction that its transport ended; the event itself carries a message there, no status. */
static inline pj_status_t tsx_error(const pjsip_transaction *tsx)
{
    return LAYOUT_READ(pj_status_t, tsx, layout.row.tsx_transport_err);
}

/* --- pjsua ------------------------------------------------------------------------------------------------------- */

/* Returns whether pjsua's own state can be read, and lies as compiled here: it is the same in all versions. */
static inline int pjsua_state_is_known(void)
{
    return host.pjsua_var && LAYOUT_READ(pjsip_endpoint *, host.pjsua_var, offsetof(struct pjsua_data, endpt)) ==
                                 host.pjsua_get_pjsip_endpt();
}

/* Returns where pjsua keeps how many name servers it was given; NULL: not known. */
static inline unsigned *pjsua_nameserver_count(void)
{
    return layout.nameserver_count ? &LAYOUT_AT(unsigned, host.pjsua_var, layout.nameserver_count) : NULL;
}

/* Returns pjsua's lock that guards its accounts, recursive; NULL: unknown. */
static inline pj_mutex_t *pjsua_mutex(void)
{
    return pjsua_state_is_known() ? ((const struct pjsua_data *)host.pjsua_var)->mutex : NULL;
}

/* Returns what pjsua found in the transport state callback's slot, and calls; NULL: nothing, or unknown. */
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

/* Room for the host's own pjsua_acc_config, whose size layout.c has found to be no more. */
typedef union account_config {
    pjsua_acc_config config; /* id and reg_uri are read of it, the rest by the functions that follow */
    char room[3 * sizeof(pjsua_acc_config)];
} account_config;

/* Room for the host's own pjsua_acc_info, whose last member is a text of PJ_ERR_MSG_SIZE octets. */
typedef union account_info {
    pjsua_acc_info info;
    char room[sizeof(pjsua_acc_info) + 2048];
} account_info;

static inline unsigned config_proxy_count(const account_config *config)
{
    return LAYOUT_READ(unsigned, config, layout.row.config_proxy_cnt);
}

static inline const pj_str_t *config_proxy(const account_config *config, unsigned index)
{
    return &LAYOUT_READ(pj_str_t, config, layout.row.config_proxy + index * sizeof(pj_str_t));
}

static inline void config_set_proxy(account_config *config, unsigned index, const char *proxy)
{
    const pj_str_t text = { (char *)(uintptr_t)proxy, (pj_ssize_t)strlen(proxy) };

    LAYOUT_AT(pj_str_t, config, layout.row.config_proxy + index * sizeof text) = text;
}

static inline void config_set_proxy_count(account_config *config, unsigned count)
{
    LAYOUT_AT(unsigned, config, layout.row.config_proxy_cnt) = count;
}

static inline int config_transport_id(const account_config *config)
{
    return LAYOUT_READ(pjsua_transport_id, config, layout.config_transport_id);
}

static inline const pjsip_auth_clt_pref *config_auth_pref(const account_config *config)
{
    return &LAYOUT_READ(pjsip_auth_clt_pref, config, layout.row.config_auth_pref);
}

static inline unsigned config_cred_count(const account_config *config)
{
    return LAYOUT_READ(unsigned, config, layout.config_cred_count);
}

/* Returns the account's credentials, an array of the loaded pjsip's own pjsip_cred_info: for its functions alone. */
static inline const pjsip_cred_info *config_credentials(const account_config *config)
{
    return &LAYOUT_READ(pjsip_cred_info, config, layout.config_cred_info);
}

/* These stand at the same distance from their neighbours in every version. */
enum {
    CONFIG_TO_CONTACT_REWRITE = offsetof(pjsua_acc_config, allow_contact_rewrite) -
        offsetof(pjsua_acc_config, transport_id),
    CONFIG_TO_CONTACT_USE_SRC_PORT = offsetof(pjsua_acc_config, contact_use_src_port) -
        offsetof(pjsua_acc_config, transport_id),
    CONFIG_TO_FORCE_CONTACT = offsetof(pjsua_acc_config, force_contact) - offsetof(pjsua_acc_config, auth_pref)
};

static inline int config_contact_rewrite(const account_config *config)
{
    return LAYOUT_READ(int, config, layout.config_transport_id + CONFIG_TO_CONTACT_REWRITE);
}

static inline void config_set_contact_rewrite(account_config *config, int rewrite)
{
    LAYOUT_AT(int, config, layout.config_transport_id + CONFIG_TO_CONTACT_REWRITE) = rewrite;
}

/* Returns whether pjsua is to write the Contact, with the port of the connection. */
static inline int config_contact_follows_connection(const account_config *config)
{
    return LAYOUT_READ(int, config, layout.config_transport_id + CONFIG_TO_CONTACT_USE_SRC_PORT) &&
           !LAYOUT_READ(pj_str_t, config, layout.row.config_auth_pref + CONFIG_TO_FORCE_CONTACT).slen;
}

/* pjsua_server_affinity_mode, after pjproject 2.17: 1 enabled, 0 disabled, or there is none, -1 inherited. */
static inline int config_affinity(const account_config *config)
{
    enum { DISABLED = 1, ENABLED = 2 };

    if (!layout.config_server_affinity)
        return 0;
    switch (LAYOUT_READ(int, config, layout.config_server_affinity)) {
    case ENABLED: return 1;
    case DISABLED: return 0;
    default: return -1;
    }
}
