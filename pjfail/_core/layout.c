/*
 * layout.c: the table of layouts, and the finding of the one that this process's pjsip has.
 *
 * To add a version of pjproject: tools/layout.sh TREE prints the row of a configured tree with a stock config_site.h. Where it is
 * one of the table's, widen that row's range; else put it there, with a line in LAYOUTS. When pjfail is compiled against that
 * version's headers the row is checked against them. Look, too, at whatever else pjfail touches: the structures that the top of
 * layout.h does not name, the functions of host.h, the enumerations in use. So far all of these are the same in every version.
 *
 * Called while attaching, one thread at a time; SIP threads read what is found.
 */
#include "layout.h"

#include "loader.h"
#include "pjfail.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

struct layout layout;

/* --- the table --------------------------------------------------------------------------------------------------- */

/* clang-format off */

/* pjsip_server_addresses, and so pjsip_tx_data, whose records have a name since 2.16; pjsip_transport */
#define SENDING_2_14(FIELD)                                                                                       \
    FIELD(addresses_entry, 4) FIELD(record_size, 44) FIELD(record_type, 0) FIELD(record_priority, 4)              \
    FIELD(record_weight, 8) FIELD(record_addr, 12) FIELD(record_addr_len, 40)                                     \
    FIELD(transport_dir, 224) FIELD(transport_tpmgr, 240)
#define SENDING_2_16(FIELD)                                                                                       \
    FIELD(addresses_entry, 8) FIELD(record_size, 64) FIELD(record_type, 16) FIELD(record_priority, 20)            \
    FIELD(record_weight, 24) FIELD(record_addr, 28) FIELD(record_addr_len, 56)                                    \
    FIELD(transport_dir, 232) FIELD(transport_tpmgr, 248)

/* pjsip_transaction */
#define TRANSACTION_2_14(FIELD)                                                                                   \
    FIELD(tsx_branch, 160) FIELD(tsx_state, 200) FIELD(tsx_transport, 224) FIELD(tsx_is_reliable, 232)            \
    FIELD(tsx_addr, 236) FIELD(tsx_addr_len, 264) FIELD(tsx_transport_err, 348) FIELD(tsx_tp_st_key, 376)         \
    FIELD(tsx_last_tx, 384) FIELD(tsx_retransmit_timer, 400)
#define TRANSACTION_2_17(FIELD)                                                                                   \
    FIELD(tsx_branch, 168) FIELD(tsx_state, 208) FIELD(tsx_transport, 232) FIELD(tsx_is_reliable, 240)            \
    FIELD(tsx_addr, 244) FIELD(tsx_addr_len, 272) FIELD(tsx_transport_err, 356) FIELD(tsx_tp_st_key, 384)         \
    FIELD(tsx_last_tx, 392) FIELD(tsx_retransmit_timer, 408)

/* pjsua_acc_config, with the size of a pjsip_cred_info in it */
#define CONFIG_2_14(FIELD)                                                                                        \
    FIELD(config_proxy_cnt, 336) FIELD(config_proxy, 344) FIELD(config_proxies, 8) FIELD(config_reg_timeout, 476) \
    FIELD(config_auth_pref, 232) FIELD(config_cred_count, 488) FIELD(config_cred_info, 496)                       \
    FIELD(config_credential, 128) FIELD(config_transport_id, 1520) FIELD(config_server_affinity, LAYOUT_NONE)
#define CONFIG_2_15(FIELD)                                                                                        \
    FIELD(config_proxy_cnt, 336) FIELD(config_proxy, 344) FIELD(config_proxies, 8) FIELD(config_reg_timeout, 476) \
    FIELD(config_auth_pref, 232) FIELD(config_cred_count, 488) FIELD(config_cred_info, 496)                       \
    FIELD(config_credential, 136) FIELD(config_transport_id, 1584) FIELD(config_server_affinity, LAYOUT_NONE)
#define CONFIG_2_16(FIELD)                                                                                        \
    FIELD(config_proxy_cnt, 340) FIELD(config_proxy, 344) FIELD(config_proxies, 8) FIELD(config_reg_timeout, 476) \
    FIELD(config_auth_pref, 232) FIELD(config_cred_count, 488) FIELD(config_cred_info, 496)                       \
    FIELD(config_credential, 136) FIELD(config_transport_id, 1584) FIELD(config_server_affinity, LAYOUT_NONE)
#define CONFIG_2_17_DEV(FIELD)                                                                                    \
    FIELD(config_proxy_cnt, 348) FIELD(config_proxy, 352) FIELD(config_proxies, 8) FIELD(config_reg_timeout, 484) \
    FIELD(config_auth_pref, 232) FIELD(config_cred_count, 496) FIELD(config_cred_info, 504)                       \
    FIELD(config_credential, 136) FIELD(config_transport_id, 1592) FIELD(config_server_affinity, 2340)

#define LAYOUTS(ROW)                                                                                              \
    ROW("2.14 to 2.14.1", VERSION(2, 14, 0), VERSION(2, 14, 1), "", SENDING_2_14, TRANSACTION_2_14, CONFIG_2_14)  \
    ROW("2.15 to 2.15.1", VERSION(2, 15, 0), VERSION(2, 15, 1), "", SENDING_2_14, TRANSACTION_2_14, CONFIG_2_15)  \
    ROW("2.16", VERSION(2, 16, 0), VERSION(2, 16, 0), "", SENDING_2_16, TRANSACTION_2_14, CONFIG_2_16)            \
    ROW("2.17", VERSION(2, 17, 0), VERSION(2, 17, 0), "", SENDING_2_16, TRANSACTION_2_17, CONFIG_2_16)            \
    ROW("2.17-dev", VERSION(2, 17, 0), VERSION(2, 17, 0), "-dev", SENDING_2_16, TRANSACTION_2_17, CONFIG_2_17_DEV)

#define VERSION(major, minor, revision) ((unsigned)(major) << 24 | (minor) << 16 | (revision) << 8)

/* The headers compiled against have a row of their own: a tree that the table does not know serves its own host. */
#ifdef PJSUA_ACC_SERVER_AFFINITY_DEFAULT
#define SERVER_AFFINITY offsetof(pjsua_acc_config, server_affinity)
#else
#define SERVER_AFFINITY LAYOUT_NONE
#endif

#define LAYOUT_COMPILED(FIELD)                                                                                    \
    FIELD(addresses_entry, offsetof(pjsip_server_addresses, entry))                                               \
    FIELD(record_size, sizeof(pjsip_server_address_record))                                                       \
    FIELD(record_type, offsetof(pjsip_server_address_record, type))                                               \
    FIELD(record_priority, offsetof(pjsip_server_address_record, priority))                                       \
    FIELD(record_weight, offsetof(pjsip_server_address_record, weight))                                           \
    FIELD(record_addr, offsetof(pjsip_server_address_record, addr))                                               \
    FIELD(record_addr_len, offsetof(pjsip_server_address_record, addr_len))                                       \
    FIELD(transport_dir, offsetof(pjsip_transport, dir))                                                          \
    FIELD(transport_tpmgr, offsetof(pjsip_transport, tpmgr))                                                      \
    FIELD(tsx_branch, offsetof(pjsip_transaction, branch))                                                        \
    FIELD(tsx_state, offsetof(pjsip_transaction, state))                                                          \
    FIELD(tsx_transport, offsetof(pjsip_transaction, transport))                                                  \
    FIELD(tsx_is_reliable, offsetof(pjsip_transaction, is_reliable))                                              \
    FIELD(tsx_addr, offsetof(pjsip_transaction, addr))                                                            \
    FIELD(tsx_addr_len, offsetof(pjsip_transaction, addr_len))                                                    \
    FIELD(tsx_transport_err, offsetof(pjsip_transaction, transport_err))                                          \
    FIELD(tsx_tp_st_key, offsetof(pjsip_transaction, tp_st_key))                                                  \
    FIELD(tsx_last_tx, offsetof(pjsip_transaction, last_tx))                                                      \
    FIELD(tsx_retransmit_timer, offsetof(pjsip_transaction, retransmit_timer))                                    \
    FIELD(config_proxy_cnt, offsetof(pjsua_acc_config, proxy_cnt))                                                \
    FIELD(config_proxy, offsetof(pjsua_acc_config, proxy))                                                        \
    FIELD(config_proxies, PJSUA_ACC_MAX_PROXIES)                                                                  \
    FIELD(config_reg_timeout, offsetof(pjsua_acc_config, reg_timeout))                                            \
    FIELD(config_auth_pref, offsetof(pjsua_acc_config, auth_pref))                                                \
    FIELD(config_cred_count, offsetof(pjsua_acc_config, cred_count))                                              \
    FIELD(config_cred_info, offsetof(pjsua_acc_config, cred_info))                                                \
    FIELD(config_credential, sizeof(pjsip_cred_info))                                                             \
    FIELD(config_transport_id, offsetof(pjsua_acc_config, transport_id))                                          \
    FIELD(config_server_affinity, SERVER_AFFINITY)

#define AS_COMPILED(name, value) COMPILED_##name = (value),
enum { LAYOUT_COMPILED(AS_COMPILED) };
#undef AS_COMPILED

#define ONE(...) + 1
#define IS_COMPLETE(row_name, first, last, extra, sending, transaction, config)                                   \
    _Static_assert((sending(ONE) transaction(ONE) config(ONE)) == (LAYOUT_FIELDS(ONE)),                           \
                   "the row for " row_name " in the table of layouts lacks a field");
LAYOUTS(IS_COMPLETE)
#undef IS_COMPLETE
#undef ONE

/*
 * The headers of a released version must be as its row has it, unless their config_site.h changes what rows take for granted.
 * A development version may have moved on.
 */
#define IS_AS(name, value) (value) == COMPILED_##name &&
#define CHECK(row_name, first, last, extra, sending, transaction, config)                                         \
    _Static_assert(PJ_VERSION_NUM < (first) || PJ_VERSION_NUM > (last) || sizeof PJ_VERSION_NUM_EXTRA > 1 ||      \
                       sizeof extra > 1 || PJSUA_ACC_MAX_PROXIES != 8 || PJ_MAX_OBJ_NAME != 32 ||                 \
                       (sending(IS_AS) transaction(IS_AS) config(IS_AS) 1),                                       \
                   "the table of layouts has another row for " row_name " than these headers (see tools/layout.sh)");
#ifndef LAYOUT_UNCHECKED        /* by tools/layout.sh, which prints what the row should be */
LAYOUTS(CHECK)
#endif
#undef CHECK
#undef IS_AS

#define IS(name, value) .name = (value),
#define ROW(row_name, row_first, row_last, row_extra, sending, transaction, config)                               \
    { .name = row_name, .first = row_first, .last = row_last, .extra = row_extra,                                 \
      sending(IS) transaction(IS) config(IS) },
/* The first is that of the headers. */
static const struct layout_row rows[] = {
    { .name = "the headers compiled against", .first = PJ_VERSION_NUM, .last = PJ_VERSION_NUM,
      .extra = PJ_VERSION_NUM_EXTRA, LAYOUT_COMPILED(IS) },
    LAYOUTS(ROW)
};
#undef ROW
#undef IS

/* clang-format on */

/* --- which row --------------------------------------------------------------------------------------------------- */

/* Returns whether the version, as pj_get_version() tells it, is one of the row's. */
static int layout_is_for(const struct layout_row *row, const char *version)
{
    unsigned number;

    for (number = row->first; number <= row->last; number += VERSION(0, 0, 1)) {
        char text[32];
        int length = snprintf(text, sizeof text, "%u.%u", number >> 24, number >> 16 & 255);

        if (number >> 8 & 255)
            length += snprintf(text + length, sizeof text - (size_t)length, ".%u", number >> 8 & 255);
        snprintf(text + length, sizeof text - (size_t)length, "%s", row->extra);
        if (!strcmp(text, version))
            return 1;
    }
    return 0;
}

const char *pf_layout_of(const char *version)
{
    size_t i;

    /* The table's name for it first: it tells more. */
    for (i = PJ_ARRAY_SIZE(rows); i-- > 0;)
        if (layout_is_for(&rows[i], version))
            return rows[i].name;
    return NULL;
}

const char *pf_known_layout(int index)
{
    return index >= 0 && index + 1 < (int)PJ_ARRAY_SIZE(rows) ? rows[index + 1].name : NULL;
}

/* --- looking at the live host ------------------------------------------------------------------------------------ */

/* Structures begin with a name. How long one may be is told by where the host cuts it, in a pool's, which nothing stands before. */
static int layout_names_fit(pjsip_endpoint *endpt)
{
    char name[PJ_MAX_OBJ_NAME + 1];
    pj_pool_t *pool;
    int fit;

    memset(name, 'x', PJ_MAX_OBJ_NAME);
    name[PJ_MAX_OBJ_NAME] = '\0';
    pool = host.pjsip_endpt_create_pool(endpt, name, 512, 512);
    if (!pool)
        return 0;
    fit = strnlen(pool->obj_name, PJ_MAX_OBJ_NAME) == PJ_MAX_OBJ_NAME - 1;
    host.pjsip_endpt_release_pool(endpt, pool);
    return fit;
}

/* What pjsip finds for a literal address. */
struct look {
    const struct layout_row *row;
    int fits;
};

static void layout_on_resolved(pj_status_t status, void *token, const pjsip_server_addresses *addresses)
{
    struct look *look = token;
    const char *record = (const char *)addresses + look->row->addresses_entry;
    const pj_sockaddr *address;

    if (status != PJ_SUCCESS || addresses_count(addresses) != 1)
        return;
    address = &LAYOUT_READ(pj_sockaddr, record, look->row->record_addr);
    look->fits = LAYOUT_READ(pjsip_transport_type_e, record, look->row->record_type) == PJSIP_TRANSPORT_TCP &&
                 LAYOUT_READ(int, record, look->row->record_addr_len) == sizeof(pj_sockaddr_in) &&
                 address->ipv4.sin_family == AF_INET && address->ipv4.sin_port == htons(5099) &&
                 address->ipv4.sin_addr.s_addr == htonl(0xC0000201);
}

/* Has pjsip resolve a literal address, which it does at once and without a packet, and looks at its answer. */
static int layout_addresses_fit(pj_pool_t *pool, const struct layout_row *row)
{
    struct look look = { row, 0 };
    pjsip_resolver_t *resolver;
    pjsip_host_info target;

    if (host.pjsip_resolver_create(pool, &resolver) != PJ_SUCCESS)
        return 0;
    memset(&target, 0, sizeof target);
    target.flag = PJSIP_TRANSPORT_RELIABLE;
    target.type = PJSIP_TRANSPORT_TCP;
    target.addr.host.ptr = "192.0.2.1";
    target.addr.host.slen = 9;
    target.addr.port = 5099;
    host.pjsip_resolve(resolver, pool, &target, &look, &layout_on_resolved);
    host.pjsip_resolver_destroy(resolver);
    return look.fits;
}

/* What follows from the number of addresses in a message: their array stands in the middle of it. */
static void layout_set_addresses(struct layout *found, unsigned addresses)
{
    const unsigned before = offsetof(pjsip_tx_data, dest_info.addr), pointer = sizeof(void *);
    /* In every version transport, address and selector are as far from each other. */
    const unsigned transport = offsetof(pjsip_tx_data, tp_info.transport);

    found->addresses = addresses;
    found->tdata_cur_addr = before + found->row.addresses_entry + addresses * found->row.record_size;
    found->tdata_transport = (found->tdata_cur_addr + (unsigned)sizeof(unsigned) + pointer - 1) / pointer * pointer;
    found->tdata_dst_addr = found->tdata_transport + (offsetof(pjsip_tx_data, tp_info.dst_addr) - transport);
    found->tdata_selector = found->tdata_transport + (offsetof(pjsip_tx_data, tp_sel) - transport);
}

/*
 * Marks a message's transport selector and looks for the mark: where it is tells how many addresses stand before it. pjsip
 * gives a message more room (PJSIP_POOL_LEN_TDATA) than what is looked at.
 */
static const char *layout_look_at_message(pjsip_tx_data *tdata, struct layout *found)
{
    static const pj_uint32_t sign[2] = { PJSIP_TPSELECTOR_PREFER_IPV6, 0x706A6661 };
    const pjsip_msg *msg = tdata->msg;
    pjsip_tpselector mark;
    unsigned addresses;

    if (!tdata->pool || !msg || msg->type != PJSIP_REQUEST_MSG || msg->line.req.method.id != PJSIP_OPTIONS_METHOD)
        return "pjsip_tx_data.msg";
    memset(&mark, 0, sizeof mark);
    mark.type = PJSIP_TPSELECTOR_IP_VER;
    memcpy(&mark.u, sign, sizeof sign);
    if (host.pjsip_tx_data_set_transport(tdata, &mark) != PJ_SUCCESS)
        return "pjsip_tpselector";
    for (addresses = 2; addresses <= LAYOUT_ROOM; addresses++) {
        layout_set_addresses(found, addresses);
        if (!memcmp((const char *)tdata + found->tdata_selector, &mark, sizeof mark))
            return NULL;
    }
    return "pjsip_tx_data.tp_sel (PJSIP_MAX_RESOLVED_ADDRESSES)";
}

/* Makes a transaction that sends nothing and tells nobody, as pjsip's own for OPTIONS; it is gone at the next poll. */
static int layout_transaction_fits(pjsip_tx_data *tdata, const struct layout_row *row)
{
    pjsip_transaction *tsx;
    pjsip_via_hdr *via;
    int fits;

    if (host.pjsip_tsx_create_uac(NULL, tdata, &tsx) != PJ_SUCCESS)
        return 0;
    via = host.pjsip_msg_find_hdr(tdata->msg, PJSIP_H_VIA, NULL);
    fits = via && tsx->grp_lock && LAYOUT_READ(pj_str_t, tsx, row->tsx_branch).slen == via->branch_param.slen &&
           LAYOUT_READ(pj_str_t, tsx, row->tsx_branch).ptr == via->branch_param.ptr &&
           LAYOUT_READ(pjsip_tx_data *, tsx, row->tsx_last_tx) == tdata &&
           !LAYOUT_READ(void *, tsx, row->tsx_tp_st_key) && !LAYOUT_READ(void *, tsx, row->tsx_transport) &&
           LAYOUT_READ(pjsip_tsx_state_e, tsx, row->tsx_state) == PJSIP_TSX_STATE_NULL &&
           !LAYOUT_READ(pj_bool_t, tsx, row->tsx_is_reliable) &&
           LAYOUT_READ(void *, tsx, row->tsx_retransmit_timer + offsetof(pj_timer_entry, user_data)) == tsx;
    host.pjsip_tsx_terminate(tsx, PJSIP_SC_INTERNAL_SERVER_ERROR);
    return fits;
}

/* The UDP transport, if there is one; nothing is sent. Others are looked at by nobody before they are used. */
static int layout_transport_fits(pjsip_endpoint *endpt, const struct layout_row *row)
{
    pjsip_transport *transport;
    pj_sockaddr address;
    int fits;

    memset(&address, 0, sizeof address);
    address.ipv4.sin_family = AF_INET;
    address.ipv4.sin_port = htons(5060);
    address.ipv4.sin_addr.s_addr = htonl(0xC0000201);
    if (host.pjsip_endpt_acquire_transport2(endpt, PJSIP_TRANSPORT_UDP, &address, sizeof address.ipv4, NULL, NULL,
                                            &transport) != PJ_SUCCESS)
        return 1;
    fits = transport_type(transport) == PJSIP_TRANSPORT_UDP &&
           LAYOUT_READ(pjsip_tpmgr *, transport, row->transport_tpmgr) == host.pjsip_endpt_get_tpmgr(endpt) &&
           LAYOUT_READ(pjsip_transport_dir, transport, row->transport_dir) == PJSIP_TP_DIR_NONE;
    host.pjsip_transport_dec_ref(transport);
    return fits;
}

/* Which of the two Vias, told by their branches behind "z9hG4bK", pjsip finds in a message that is nothing but pointers to them; -1: neither. */
static int layout_find_via(pj_pool_t *pool, pjsip_via_hdr **message, const pjsip_via_hdr vias[2])
{
    pj_str_t key;
    int i;

    if (host.pjsip_tsx_create_key(pool, &key, PJSIP_ROLE_UAC, host.pjsip_get_options_method(), (void *)message) !=
        PJ_SUCCESS)
        return -1;
    for (i = 0; i < 2; i++)
        if (memmem(key.ptr, (size_t)key.slen, vias[i].branch_param.ptr + 7, (size_t)vias[i].branch_param.slen - 7))
            return i;
    return -1;
}

/*
 * Maps the same memory so many times in a row; NULL: the system refuses. (A mremap() without a size, which would do that too, is
 * not to be had under qemu.)
 */
static char *layout_map(size_t length, size_t copies)
{
    const int file = (int)syscall(SYS_memfd_create, "pjfail", MFD_CLOEXEC);
    char *room = mmap(NULL, copies * length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    int failed = file < 0 || room == MAP_FAILED || ftruncate(file, (off_t)length) < 0;
    size_t i;

    for (i = 0; i < copies && !failed; i++)
        failed = mmap(room + i * length, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file, 0) == MAP_FAILED;
    if (file >= 0)
        close(file);
    if (failed && room != MAP_FAILED)
        munmap(room, copies * length);
    return failed ? NULL : room;
}

/*
 * Finds where the host looks for a received message's Via, behind a packet of whatever size: of a message that is nothing but
 * pointers to two Vias it takes one, and halving tells which. The message is as long as a packet may be, and is there COPIES times
 * in a row, so that a host whose packets are longer finds a pointer, too. What it takes from a copy is then put into the first
 * alone: such a host does not see it there. NULL, or what does not fit.
 */
static const char *layout_find_packet(pj_pool_t *pool, struct layout *found)
{
    enum { LENGTH = 1 << 20, COPIES = 64, SLOTS = LENGTH / sizeof(void *), AT = offsetof(pjsip_rx_data, msg_info.via) };
    char *room = layout_map(LENGTH, COPIES);
    pjsip_via_hdr **message = (pjsip_via_hdr **)(void *)room, vias[2];
    size_t low = 0, high = SLOTS, i;
    int via = 0;

    if (!room)
        return "memfd_create()";
    memset(vias, 0, sizeof vias);
    vias[0].branch_param.ptr = "z9hG4bK-pjfail-0";
    vias[1].branch_param.ptr = "z9hG4bK-pjfail-1";
    vias[0].branch_param.slen = vias[1].branch_param.slen = 16;
    while (via >= 0 && high - low > 1) {
        size_t middle = (low + high) / 2;

        for (i = low; i < high; i++)
            message[i] = &vias[i >= middle];
        via = layout_find_via(pool, message, vias);
        *(via > 0 ? &low : &high) = middle;
    }
    if (via >= 0) {
        message[low] = &vias[0];
        via = mmap(room, LENGTH, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED
                  ? -1
                  : 0;
    }
    if (via >= 0) {
        message[low] = &vias[1];
        via = layout_find_via(pool, message, vias);
    }
    munmap(room, (size_t)COPIES * LENGTH);
    found->rdata_shift = (ptrdiff_t)(low * sizeof *message) - AT;
    return via > 0 ? NULL : via < 0 ? "pjsip_rx_data" : "pjsip_rx_data (PJSIP_MAX_PKT_LEN)";
}

/* Copies the beginning of an ioqueue for so many keys, before and after one of them is in use. 0: there is none. */
static int layout_look_at_ioqueue(pjsip_endpoint *endpt, unsigned keys, unsigned char *before, unsigned char *after,
                                  size_t size)
{
    static const pj_ioqueue_callback callback = { NULL, NULL, NULL, NULL };
    pj_pool_t *pool = host.pjsip_endpt_create_pool(endpt, "pjfail", 8000, 8000);
    pj_ioqueue_t *ioqueue = NULL;
    pj_ioqueue_key_t *key = NULL;
    int socket_of_it = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (pool && socket_of_it >= 0 && host.pj_ioqueue_create(pool, keys, &ioqueue) == PJ_SUCCESS) {
        memcpy(before, ioqueue, size);
        if (host.pj_ioqueue_register_sock(pool, ioqueue, socket_of_it, NULL, &callback, &key) == PJ_SUCCESS) {
            memcpy(after, ioqueue, size);
            host.pj_ioqueue_unregister(key); /* closes its socket */
        }
        host.pj_ioqueue_destroy(ioqueue);
    }
    if (!key && socket_of_it >= 0)
        close(socket_of_it);
    if (pool)
        host.pjsip_endpt_release_pool(endpt, pool);
    return key != NULL;
}

/*
 * Finds how many keys the endpoint's ioqueue bears, and where it counts those in use: an ioqueue has the one number before the
 * other, as two of known sizes show. It leaves found->keys at 0 where there is no such place, or more than one.
 */
static void layout_find_keys(pjsip_endpoint *endpt, struct layout *found)
{
    enum {
        FEW = 5,
        MORE = 7,
        LOOKED_AT = 256
    }; /* that much stands in front of the keys, in the same block of the pool */
    unsigned char few[2][LOOKED_AT], more[2][LOOKED_AT];
    const unsigned next = sizeof(unsigned);
    unsigned at, places = 0;

    if (!layout_look_at_ioqueue(endpt, FEW, few[0], few[1], LOOKED_AT) ||
        !layout_look_at_ioqueue(endpt, MORE, more[0], more[1], LOOKED_AT))
        return;
    for (at = 0; at + next < LOOKED_AT; at += next)
        if (LAYOUT_READ(unsigned, few[1], at) == FEW && LAYOUT_READ(unsigned, more[1], at) == MORE &&
            LAYOUT_READ(unsigned, few[0], at + next) == 0 && LAYOUT_READ(unsigned, few[1], at + next) == 1) {
            found->ioqueue_count = at + next;
            places++;
        }
    if (places == 1)
        found->keys = LAYOUT_READ(unsigned, host.pjsip_endpt_get_ioqueue(endpt), found->ioqueue_count - next);
}

enum { LAYOUT_MARK = 0xA5, LAYOUT_MARKED = 65536 };

/* Returns marked memory, the caller's to free: what pjsua writes its defaults over tells how large they are. NULL: there is none. */
static unsigned char *layout_mark(void)
{
    unsigned char *memory = malloc(LAYOUT_MARKED);

    return memory ? memset(memory, LAYOUT_MARK, LAYOUT_MARKED) : NULL;
}

/* Returns how many octets of marked memory have been written. */
static unsigned layout_written(const unsigned char *memory)
{
    unsigned size = LAYOUT_MARKED;

    while (size && memory[size - 1] == LAYOUT_MARK)
        size--;
    return size;
}

/*
 * Has pjsua write its defaults over marked memory. That tells how large the configuration is and, by the two values whose place
 * depends on it, for how many proxies. It leaves found->proxies at 0 where it does not fit.
 */
static void layout_find_config(struct layout *found)
{
    enum { MOST_PROXIES = 64 };
    const struct layout_row *row = &found->row;
    unsigned char *config = layout_mark();
    unsigned size, proxies;

    if (!config)
        return;
    host.pjsua_acc_config_default((pjsua_acc_config *)(void *)config);
    size = layout_written(config);
    for (proxies = 1; proxies <= MOST_PROXIES && size <= sizeof(account_config); proxies++) {
        const unsigned more = proxies - row->config_proxies; /* or fewer, modulo */
        const unsigned timeout = row->config_reg_timeout + more * (unsigned)sizeof(pj_str_t);
        const unsigned behind = more * (unsigned)(sizeof(pj_str_t) + row->config_credential);

        if (row->config_transport_id + behind > size - sizeof(int))
            break;
        if (LAYOUT_READ(unsigned, config, row->config_proxy_cnt) ||
            LAYOUT_READ(unsigned, config, timeout) != PJSUA_REG_INTERVAL ||
            LAYOUT_READ(unsigned, config, row->config_cred_count + more * (unsigned)sizeof(pj_str_t)) ||
            LAYOUT_READ(int, config, row->config_transport_id + behind) != PJSUA_INVALID_ID ||
            LAYOUT_READ(int, config, row->config_transport_id + behind + CONFIG_TO_CONTACT_REWRITE) != PJ_TRUE ||
            LAYOUT_READ(int, config, row->config_transport_id + behind + CONFIG_TO_CONTACT_USE_SRC_PORT) != PJ_TRUE)
            continue;
        found->proxies = proxies;
        found->config_cred_count = row->config_cred_count + more * (unsigned)sizeof(pj_str_t);
        found->config_cred_info = row->config_cred_info + more * (unsigned)sizeof(pj_str_t);
        found->config_transport_id = row->config_transport_id + behind;
        if (row->config_server_affinity)
            found->config_server_affinity = row->config_server_affinity + behind;
        break;
    }
    free(config);
}

/*
 * Returns whether this may be pjsua's configuration, which has so many words: it begins as those of all versions do, and more than
 * half of what pjsua sets to other than zero by default is there (in 2.15.1 and 2.17 nine and ten words, of which a program with
 * settings of its own keeps seven and eight; nothing else in pjsua's state has more than one). Reads without pjsua's lock, which a
 * SIP thread may hold for long; pjsua_init() alone writes the configuration.
 */
__attribute__((no_sanitize("thread"))) static int layout_is_pjsua_config(const unsigned *at, const unsigned *defaults,
                                                                         size_t words, unsigned calls)
{
    enum {
        MAX_CALLS = offsetof(pjsua_config, max_calls) / sizeof(unsigned),
        NAME_SERVERS = offsetof(pjsua_config, nameserver_count) / sizeof(unsigned),
        BEHIND_NAME_SERVERS = offsetof(pjsua_config, force_lr) / sizeof(unsigned)
    };
    size_t set = 0, alike = 0, i;

    if (at[MAX_CALLS] != calls || at[NAME_SERVERS] > PJ_ARRAY_SIZE(((pjsua_config *)0)->nameserver))
        return 0;
    for (i = BEHIND_NAME_SERVERS; i < words; i++) {
        set += defaults[i] != 0;
        alike += defaults[i] && at[i] == defaults[i];
    }
    return 2 * alike > set;
}

/*
 * Looks through pjsua's state for its configuration, which stands behind the array of accounts: their size is each version's and
 * each build's own. It leaves found->nameserver_count at 0 where there is no such place, or more than one.
 */
static void layout_find_pjsua_config(struct layout *found)
{
    unsigned char *defaults = layout_mark();
    const unsigned calls = host.pjsua_call_get_max_count();
    size_t at, size, all, place = 0;
    unsigned places = 0;

    if (defaults && pjsua_state_is_known()) {
        host.pjsua_config_default((pjsua_config *)(void *)defaults);
        size = layout_written(defaults);
        all = loader_size_of(host.pjsua_var);
        for (at = sizeof(void *); at + size <= all; at += sizeof(void *))
            if (layout_is_pjsua_config(&LAYOUT_READ(unsigned, host.pjsua_var, at), (unsigned *)(void *)defaults,
                                       size / sizeof(unsigned), calls)) {
                place = at;
                places++;
            }
    }
    if (places == 1)
        found->nameserver_count = (unsigned)(place + offsetof(pjsua_config, nameserver_count));
    free(defaults);
}

/* NULL, or the structure that does not lie as the row has it. */
static const char *layout_look_at_host(pjsip_endpoint *endpt, pj_pool_t *pool, struct layout *found)
{
    static const pj_str_t target = { "sip:pjfail.invalid", 18 }, from = { "<sip:pjfail@pjfail.invalid>", 27 };
    const char *wrong;
    pjsip_tx_data *tdata;

    if (!layout_names_fit(endpt))
        return "pj_pool_t.obj_name (PJ_MAX_OBJ_NAME)";
    if (!layout_addresses_fit(pool, &found->row))
        return "pjsip_server_addresses";
    wrong = layout_find_packet(pool, found);
    if (wrong)
        return wrong;
    if (!layout_transport_fits(endpt, &found->row))
        return "pjsip_transport";
    if (host.pjsip_endpt_create_request(endpt, host.pjsip_get_options_method(), &target, &from, &from, NULL, NULL, 7,
                                        NULL, &tdata) != PJ_SUCCESS)
        return "pjsip_endpt_create_request()";
    wrong = layout_look_at_message(tdata, found);
    if (!wrong && !layout_transaction_fits(tdata, &found->row))
        wrong = "pjsip_transaction";
    host.pjsip_tx_data_dec_ref(tdata);
    return wrong;
}

const char *layout_find(pjsip_endpoint *endpt, const char *version)
{
    pj_pool_t *pool = host.pjsip_endpt_create_pool(endpt, "pjfail", 4000, 4000);
    const char *wrong = "pj_get_version()";
    size_t i;

    if (!pool)
        return "pjsip_endpt_create_pool()";
    for (i = 0; i < PJ_ARRAY_SIZE(rows) && wrong; i++) {
        struct layout found;

        if (!layout_is_for(&rows[i], version))
            continue;
        memset(&found, 0, sizeof found);
        found.row = rows[i];
        wrong = layout_look_at_host(endpt, pool, &found);
        if (wrong)
            continue;
        found.row.name = pf_layout_of(version);
        layout_find_config(&found);
        layout_find_keys(endpt, &found);
        layout_find_pjsua_config(&found);
        if (memcmp(&layout, &found, sizeof layout)) /* threads of the last attachment may be at their end, reading it */
            layout = found;
    }
    host.pjsip_endpt_release_pool(endpt, pool);
    return wrong;
}

int pf_host_check(void)
{
    pjsip_endpoint *endpt;
    const char *wrong;

    if (host.pjsua_get_state() < PJSUA_STATE_INIT || host.pjsua_get_state() >= PJSUA_STATE_CLOSING)
        return PF_NO_ENDPOINT;
    host_register_thread();
    endpt = host.pjsua_get_pjsip_endpt();
    if (!endpt)
        return PF_NO_ENDPOINT;
    wrong = layout_find(endpt, pf_host_version());
    return wrong ? host_problem(PF_BAD_LAYOUT, 0, "%s", wrong) : PF_OK;
}

void pf_read_host_facts(pf_host_facts *facts)
{
    memset(facts, 0, sizeof *facts);
    snprintf(facts->version, sizeof facts->version, "%s", pf_host_version());
    snprintf(facts->layout, sizeof facts->layout, "%s", layout.row.name ? layout.row.name : "");
    facts->addresses = (int)layout.addresses;
    facts->packet = layout.addresses ? (int)(PJSIP_MAX_PKT_LEN + layout.rdata_shift) : 0;
    facts->keys = (int)layout.keys;
    facts->proxies = (int)layout.proxies;
    facts->native_affinity = pf_has_native_affinity();
    facts->state_callback = layout.addresses && pjsua_state_is_known();
    facts->own_lookups = layout.nameserver_count != 0;
}
