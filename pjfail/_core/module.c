#include "module.h"

#include "calls.h"
#include "connection_attempts.h"
#include "connections.h"
#include "contact.h"
#include "dialogs.h"
#include "failover.h"
#include "gate.h"
#include "layout.h"
#include "observer.h"
#include "raw_send.h"
#include "registrations.h"
#include "send_guard.h"
#include "standby.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

/* --- our module, SIP threads ------------------------------------------------------------------------------------- */

static void module_on_bye(const pjsip_msg *bye, int incoming)
{
    dialogs_on_bye(bye, incoming);
    calls_on_bye(bye);
}

static pj_status_t module_on_tx_request(pjsip_tx_data *tdata)
{
    pj_status_t status = PJ_SUCCESS;

    if (!gate_enter())
        return PJ_SUCCESS;
    if (connections_has_ended_under(tdata)) {
        status = PJ_STATUS_FROM_OS(ECONNRESET);
    } else {
        failover_on_tx_request(tdata);
        if (tdata_msg(tdata)->line.req.method.id == PJSIP_BYE_METHOD)
            module_on_bye(tdata_msg(tdata), 0);
    }
    gate_leave();
    return status;
}

static pj_bool_t module_on_rx_response(pjsip_rx_data *rdata)
{
    struct contact_sent sent = { .account = -1 };
    pj_bool_t hidden;

    if (gate_is_forked_child())
        return PJ_FALSE;
    send_guard_wait_for_sender(rdata); /* also during a detach: a thread of ours may still be sending */
    if (!gate_enter())
        return PJ_FALSE;
    hidden = failover_on_rx_response(rdata, &sent);
    gate_leave();
    return hidden || contact_put_right(rdata, &sent);
}

static pj_bool_t module_on_rx_request(pjsip_rx_data *rdata)
{
    if (!gate_enter())
        return PJ_FALSE;
    if (RDATA_INFO(rdata)->msg->line.req.method.id == PJSIP_BYE_METHOD)
        module_on_bye(RDATA_INFO(rdata)->msg, 1);
    gate_leave();
    return PJ_FALSE;
}

static pj_status_t module_on_tx_response(pjsip_tx_data *tdata)
{
    if (gate_enter()) {
        observer_on_tx_response(tdata);
        gate_leave();
    }
    return PJ_SUCCESS;
}

/*
 * A module stays registered until its endpoint ends, and does nothing while we are detached. Unregistering it would
 * make its list node point to itself (pj_list_erase()); a thread that has just left our callback would then spin for
 * ever in pjsip_endpt_process_rx_data(), which only then reads the module's successor (pjsip 2.17; PJSIP_SAFE_MODULE
 * is 0).
 */
enum { MAX_ENDPOINTS = 4 };

static pj_status_t module_on_stop(unsigned index);

#define ON_STOP(index)                                                                                                 \
    static pj_status_t module_on_stop_##index(void) { return module_on_stop(index); }
ON_STOP(0)
ON_STOP(1)
ON_STOP(2)
ON_STOP(3)

/* clang-format off */
#define MODULE(index) { NULL, { NULL, NULL, { "mod-pjfail", 10 }, -1, PJSIP_MOD_PRIORITY_TRANSPORT_LAYER - 1,             \
                                NULL, NULL, &module_on_stop_##index, NULL, &module_on_rx_request,                   \
                                &module_on_rx_response, &module_on_tx_request, &module_on_tx_response, NULL } }
/* clang-format on */

/*
 * Guarded by the lock of attach.c. A module's id is -1 while it is not registered with endpt: pjsip sets it to -1 when
 * the endpoint ends.
 */
static struct module_slot {
    pjsip_endpoint *endpt;
    pjsip_module module;
} module_slots[MAX_ENDPOINTS] = { MODULE(0), MODULE(1), MODULE(2), MODULE(3) };

/* The attaching thread writes this, under the lock of attach.c; SIP threads read the atomics. */
static struct {
    void (*on_endpoint_end)(pjsip_endpoint *endpt);
    struct module_slot *slot;                /* of the last attachment */
    _Atomic pjsip_tp_state_callback chained; /* what we found in pjsip's slot */
    _Atomic pjsip_tp_state_callback below;   /* what pjsua found in pjsip's slot: pjsip's own */
} module;

static pj_status_t module_on_stop(unsigned index)
{
    if (!gate_is_forked_child())
        module.on_endpoint_end(module_slots[index].endpt);
    return PJ_SUCCESS;
}

int module_open(pjsip_endpoint *endpt, void (*on_endpoint_end)(pjsip_endpoint *endpt))
{
    struct module_slot *unused = NULL;
    int i;

    for (i = 0; i < MAX_ENDPOINTS; i++) {
        struct module_slot *each = &module_slots[i];

        if (each->module.id < 0)
            unused = each;
        else if (each->endpt == endpt)
            break;
    }
    module.slot = i < MAX_ENDPOINTS ? &module_slots[i] : unused;
    module.on_endpoint_end = on_endpoint_end;
    if (module.slot)
        module.slot->endpt = endpt;
    return module.slot != NULL;
}

/* Returns whether pjsua logs messages (pjsua_logging_config.msg_logging), with a module of its own that it registers at its start. */
static int module_pjsua_logs(const pjsip_module *ours)
{
    static const pj_str_t logger = { "mod-pjsua-log", 13 };
    const pjsip_module *each = ours->next;

    while (each && each != ours &&
           (each->name.slen != logger.slen || memcmp(each->name.ptr, logger.ptr, (size_t)logger.slen) != 0))
        each = each->next;
    return each && each != ours;
}

pj_status_t module_register(void)
{
    struct module_slot *slot = module.slot;
    pj_status_t status =
        slot->module.id < 0 ? host.pjsip_endpt_register_module(slot->endpt, &slot->module) : PJ_SUCCESS;

    raw_send_set_logged(status == PJ_SUCCESS && module_pjsua_logs(&slot->module));
    return status;
}

/* --- the transport state callback -------------------------------------------------------------------------------- */

/* A state event that this thread is passing on, and the event during which it happened. */
struct module_state_event {
    const struct module_state_event *around;
    const pjsip_transport *transport;
    pjsip_transport_state state;
};

/*
 * Passes the state on to our parts and to the callbacks below. pjsip has one slot for this callback, which pjsua
 * uses, and chains as we do: a pjsua that creates a transport after us puts itself on top, with us as the one to call
 * next, though pjsua is the one that we call next. pjsua then loses pjsip's own callback, which tells transactions
 * that their transport closed. We call that callback ourselves. The thread that tells of the state.
 */
static void module_on_transport_state(pjsip_transport *transport, pjsip_transport_state state,
                                      const pjsip_transport_state_info *info)
{
    static __thread const struct module_state_event *inside;
    const struct module_state_event here = { inside, transport, state }, *event;
    pjsip_tp_state_callback chained = atomic_load(&module.chained), below = atomic_load(&module.below);

    /* Another event during an event is not that circle: pjsua shuts a transport down that has disconnected. */
    for (event = here.around; event; event = event->around)
        if (event->transport == transport && event->state == state) {
            if (below)
                below(transport, state, info);
            return;
        }
    inside = &here;
    if (gate_enter()) {
        failover_on_transport_state(transport, state, info);
        connection_attempts_on_transport_state(transport, state);
        standby_on_transport_state(transport, state);
        calls_on_transport_state(transport, state);
        gate_leave();
    }
    if (host.pjsip_tpmgr_get_state_cb(transport_manager(transport)) == chained)
        chained = below;
    if (chained)
        chained(transport, state, info);
    if (gate_enter()) {
        registrations_on_transport_state(transport, state, info);
        gate_leave();
    }
    inside = here.around;
}

void module_chain_state_callback(pjsip_endpoint *endpt)
{
    pjsip_tpmgr *manager = host.pjsip_endpt_get_tpmgr(endpt);
    pjsip_tp_state_callback installed = host.pjsip_tpmgr_get_state_cb(manager);

    if (installed != &module_on_transport_state) {
        pjsip_tp_state_callback found = pjsua_found_callback();

        if (found)
            atomic_store(&module.below, found);
        atomic_store(&module.chained, installed);
        host.pjsip_tpmgr_set_state_cb(manager, &module_on_transport_state);
    }
}

void module_unchain_state_callback(pjsip_endpoint *endpt)
{
    pjsip_tpmgr *manager = host.pjsip_endpt_get_tpmgr(endpt);

    if (host.pjsip_tpmgr_get_state_cb(manager) == &module_on_transport_state)
        host.pjsip_tpmgr_set_state_cb(manager, atomic_load(&module.chained));
}
