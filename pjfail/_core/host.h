/*
 * host.h: the pjsip that this process has loaded, found by dlsym(): pjfail's extension is linked with no pjsip.
 *
 * pf_host_open() fills host in once, before anything else runs; host never changes while attached.
 */
#pragma once

#include "clock.h"

#include <pjlib-util.h>
#include <pjlib.h>
#include <pjsip.h>
#include <pjsua-lib/pjsua.h>
#include <stdarg.h>

/* clang-format off */
#define HOST_FUNCTIONS(X)                                                                                         \
    X(pj_get_version) X(pj_strerror) X(pj_thread_is_registered) X(pj_thread_register)                             \
    X(pj_ioqueue_create) X(pj_ioqueue_destroy)                                                                    \
    X(pj_ioqueue_register_sock) X(pj_ioqueue_unregister) X(pj_ioqueue_recv) X(pj_ioqueue_op_key_init)             \
    X(pjsip_endpt_get_ioqueue) X(pjsip_endpt_create_pool) X(pjsip_endpt_release_pool) X(pjsip_endpt_atexit)       \
    X(pjsip_endpt_get_tpmgr) X(pjsip_tpmgr_get_state_cb) X(pjsip_tpmgr_set_state_cb)                              \
    X(pjsip_tpmgr_find_local_addr2)                                                                               \
    X(pjsip_endpt_register_module) X(pjsip_endpt_process_rx_data)                                                 \
    X(pjsip_endpt_set_ext_resolver) X(pjsip_endpt_set_resolver) X(pjsip_endpt_get_resolver)                       \
    X(pjsip_endpt_resolve) X(pjsip_resolver_create) X(pjsip_resolver_destroy) X(pjsip_resolve)                    \
    X(pjsip_endpt_create_request) X(pjsip_endpt_send_request_stateless) X(pjsip_get_options_method)               \
    X(pjsip_tx_data_set_transport) X(pjsip_tx_data_encode) X(pjsip_tx_data_add_ref) X(pjsip_tx_data_dec_ref) X(pjsip_msg_find_hdr)         \
    X(pjsip_endpt_create_resolver) X(pj_dns_resolver_set_ns) X(pj_dns_resolver_start_query)                       \
    X(pj_dns_resolver_destroy)                                                                                    \
    X(pjsip_endpt_send_request)                                                                                   \
    X(pjsip_method_init_np) X(pjsip_msg_body_create) X(pjsip_parse_hdr) X(pjsip_parse_uri) X(pjsip_get_dest_info) \
    X(pj_mutex_lock) X(pj_mutex_unlock) X(pj_pool_alloc) X(pjsip_endpt_get_timer_heap) X(pj_timer_heap_cancel_if_active)                                                                          \
    X(pj_grp_lock_acquire) X(pj_grp_lock_tryacquire) X(pj_grp_lock_release) X(pj_grp_lock_dec_ref)                 \
    X(pjsip_tsx_create_key) X(pjsip_tsx_create_uac) X(pjsip_tsx_layer_find_tsx2) X(pjsip_tsx_terminate)           \
    X(pjsip_tsx_get_dlg) X(pjsip_dlg_get_inv_session)                                                             \
    X(pjsip_hdr_print_on)                                                                                         \
    X(pjsip_transport_add_ref) X(pjsip_transport_dec_ref) X(pjsip_transport_add_state_listener)                    \
    X(pjsip_transport_remove_state_listener)                                                                       \
    X(pjsip_transport_shutdown2) X(pjsip_tsx_recv_msg) X(pjsip_rx_data_clone) X(pjsip_rx_data_free_cloned)         \
    X(pjsip_endpt_acquire_transport2) X(pjsip_endpt_send_raw) X(pjsip_udp_transport_get_socket)                   \
    X(pjsua_get_pjsip_endpt) X(pjsua_get_state) X(pjsua_config_default) X(pjsua_call_get_max_count)               \
    X(pjsua_acc_is_valid) X(pjsua_acc_get_count) X(pjsua_acc_get_info) X(pjsua_acc_config_default) X(pjsua_acc_get_config)               \
    X(pjsua_acc_modify) X(pjsua_acc_set_registration) X(pjsua_acc_create_request) \
    X(pjsua_ip_change_param_default) X(pjsua_handle_ip_change)                                                     \
    X(pjsua_enum_calls) X(pjsua_call_get_info) X(pjsua_call_reinvite) \
    X(pjsip_parse_msg) X(pjsip_regc_create) X(pjsip_regc_destroy) X(pjsip_regc_init) X(pjsip_regc_get_pool)       \
    X(pjsip_regc_set_credentials) X(pjsip_regc_set_prefs) X(pjsip_regc_set_route_set) X(pjsip_regc_add_headers)   \
    X(pjsip_regc_set_transport) X(pjsip_regc_register) X(pjsip_regc_unregister) X(pjsip_regc_send)        \
    X(pjsip_regc_update_contact) X(pjsip_regc_get_info)
/* clang-format on */

struct host_functions {
#define X(name) __typeof__(&name) name;
    HOST_FUNCTIONS(X)
#undef X
    /* Only after pjproject 2.17; NULL before. */
    pj_status_t (*pjsua_acc_set_affinity_addr)(pjsua_acc_id, const pj_sockaddr *);
    pj_status_t (*pjsua_acc_refresh_transport)(pjsua_acc_id);
    /* Subscriptions; NULL in a build that hides them. */
    __typeof__(&pjsip_tsx_get_evsub) pjsip_tsx_get_evsub;
    __typeof__(&pjsip_evsub_add_ref) pjsip_evsub_add_ref;
    __typeof__(&pjsip_evsub_dec_ref) pjsip_evsub_dec_ref;
    __typeof__(&pjsip_evsub_get_state) pjsip_evsub_get_state;
    __typeof__(&pjsip_evsub_terminate) pjsip_evsub_terminate;
    __typeof__(&pjsua_enum_buddies) pjsua_enum_buddies;
    __typeof__(&pjsua_buddy_update_pres) pjsua_buddy_update_pres;
    __typeof__(&pjsua_buddy_update_dlg_event) pjsua_buddy_update_dlg_event;
    pj_status_t (*pjsua_start_mwi)(pjsua_acc_id, pj_bool_t); /* pjsua_internal.h */
    /* pjlib's log, which a build with PJ_LOG_MAX_LEVEL 0 lacks. */
    int (*pj_log_get_level)(void);
    void (*pj_log)(const char *, int, const char *, va_list);
    /* pjsua's own state, and pjsip's settings, which few builds hide. */
    void *pjsua_var;
    const pjsip_cfg_t *pjsip_sip_cfg_var;
};

extern struct host_functions host;

/* Returns whether a Via over connections gets an "alias", and one over UDP none (RFC 5923). */
static inline int host_writes_via_alias(void)
{
    return host.pjsip_sip_cfg_var ? host.pjsip_sip_cfg_var->endpt.req_has_via_alias : PJSIP_REQ_HAS_VIA_ALIAS;
}

/* Writes to pjsip's log, as "pjfail", if its level is at least this one. A SIP thread that holds no lock of ours. */
void host_log(int level, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Registers the calling thread with pjlib, which every pj function needs. */
void host_register_thread(void);

/* Stores what failed for this thread's pf_problem() and pf_status(), and returns result. */
int host_problem(int result, pj_status_t status, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Sets the endpoint that we are attached to. Attaching thread, before the gate opens. */
void host_set_endpoint(pjsip_endpoint *endpt);

/* Returns the endpoint of this attachment, or of the last one. Inside the gate, or where the attachment is cleared. */
pjsip_endpoint *host_endpoint(void);

/*
 * Enters the gate: the end of host_endpoint() then waits for host_leave(). Returns 0 if detached. No lock of ours is
 * held, so a detach may come meanwhile. For Python threads; a SIP thread would wait.
 */
int host_enter(void);

/* Leaves the gate, and returns result. */
int host_leave(int result);

/* Returns whether this is an address within the object that carries pjsip. */
int host_has(const void *address);
