/*
 * host.c: binds the loaded pjsip, and has layout.c find out how its structures lie.
 *
 * Python calls pf_host_open() while it attaches, one thread at a time (pjfail.host holds a lock). host.h says which
 * threads call the other functions.
 */
#include "host.h"

#include "gate.h"
#include "loader.h"
#include "pjfail.h"

#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct host_functions host;

/* Written while no thread is inside the gate; read outside of it, too, by what guards pjsip's transactions while pjfail is detached. */
static _Atomic(pjsip_endpoint *) host_endpt;

/* One for each thread: the worker's probes fail at any time. */
static __thread char problem[256];
static __thread int problem_status;

int host_problem(int result, pj_status_t status, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(problem, sizeof problem, format, arguments);
    va_end(arguments);
    problem_status = status;
    return result;
}

const char *pf_problem(void) { return problem; }

int pf_status(void) { return problem_status; }

const char *pf_built_for(void)
{
#define TEXT(number) #number
#define VERSION(major, minor) TEXT(major) "." TEXT(minor)
#if PJ_VERSION_NUM_REV
    return VERSION(PJ_VERSION_NUM_MAJOR, PJ_VERSION_NUM_MINOR) "." TEXT(PJ_VERSION_NUM_REV) PJ_VERSION_NUM_EXTRA;
#else
    return VERSION(PJ_VERSION_NUM_MAJOR, PJ_VERSION_NUM_MINOR) PJ_VERSION_NUM_EXTRA;
#endif
}

const char *pf_host_version(void) { return host.pj_get_version ? host.pj_get_version() : ""; }

void pf_strerror(int status, char *text, int size)
{
    text[0] = '\0';
    if (host.pj_strerror)
        host.pj_strerror(status, text, (pj_size_t)size);
}

int pf_host_open(const char *object)
{
    static const struct {
        const char *name;
        size_t offset;
        int optional;
    } wanted[] = {
#define X(name) { #name, offsetof(struct host_functions, name), 0 },
        HOST_FUNCTIONS(X)
#undef X
#define X(name) { #name, offsetof(struct host_functions, name), 1 },
            X(pj_log_get_level) X(pj_log) X(pjsua_acc_set_affinity_addr) X(pjsua_acc_refresh_transport) X(pjsua_var)
                X(pjsip_sip_cfg_var) X(pjsip_tsx_get_evsub) X(pjsip_evsub_add_ref) X(pjsip_evsub_dec_ref)
                    X(pjsip_evsub_get_state) X(pjsip_evsub_terminate) X(pjsua_enum_buddies) X(pjsua_buddy_update_pres)
                        X(pjsua_buddy_update_dlg_event) X(pjsua_start_mwi)
#undef X
    };
    struct host_functions found;
    void *handle = loader_open(object);
    size_t i;

    if (!handle)
        return host_problem(PF_NO_OBJECT, 0, "%s", object ? object : "the main program");
    for (i = 0; i < PJ_ARRAY_SIZE(wanted); i++) {
        void *symbol = dlsym(handle, wanted[i].name);
        if (!symbol && !wanted[i].optional) {
            dlclose(handle);
            return host_problem(PF_NO_SYMBOL, 0, "%s", wanted[i].name);
        }
        memcpy((char *)&found + wanted[i].offset, &symbol, sizeof symbol);
    }
    /* The handle is kept on purpose: the host must stay loaded for as long as its functions are called. */
    if (memcmp(&host, &found, sizeof host)) /* a thread of the last attachment may still be reading it */
        host = found;
    return PF_OK;
}

int pf_has_native_affinity(void) { return host.pjsua_acc_set_affinity_addr && host.pjsua_acc_refresh_transport; }

int host_has(const void *address)
{
    Dl_info its, ours;
    void *known;

    memcpy(&known, &host.pjsip_tpmgr_set_state_cb, sizeof known);
    return dladdr(address, &its) && dladdr(known, &ours) && its.dli_fbase == ours.dli_fbase;
}

void host_log(int level, const char *format, ...)
{
    va_list arguments;

    /* In parentheses: in headers of a build without a log it is a macro. */
    if (!host.pj_log || !host.pj_log_get_level || (host.pj_log_get_level)() < level)
        return;
    va_start(arguments, format);
    (host.pj_log)("pjfail", level, format, arguments);
    va_end(arguments);
}

void host_register_thread(void)
{
    /* pjlib keeps a pointer to it for as long as the thread lives, and no longer. */
    static __thread pj_thread_desc description;
    pj_thread_t *thread;

    if (!host.pj_thread_is_registered()) {
        memset(description, 0, sizeof description);
        host.pj_thread_register("pjfail", description, &thread);
    }
}

void host_set_endpoint(pjsip_endpoint *endpt) { host_endpt = endpt; }

pjsip_endpoint *host_endpoint(void) { return host_endpt; }

int host_enter(void)
{
    if (!gate_enter())
        return 0;
    host_register_thread();
    return 1;
}

int host_leave(int result)
{
    gate_leave();
    return result;
}
