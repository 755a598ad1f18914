/*
 * host.c: binds the pjsip that the process carries, and checks that it is the one compiled for.
 *
 * Called by Python while it attaches, one thread at a time (pjfail.host holds a lock around it); nothing here runs
 * on a SIP thread but host_now() and host_register_thread().
 */
#include "host.h"
#include "layout.h"
#include "pjfail.h"

#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

struct host_functions host;

/* Of the thread that asks: the worker's probes fail at any time. */
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
        X(pjsua_acc_set_affinity_addr) X(pjsua_acc_refresh_transport) X(pjsua_var)
#undef X
    };
    struct host_functions found;
    void *handle = dlopen(object, RTLD_NOW | RTLD_NOLOAD);
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
    if (memcmp(&host, &found, sizeof host))     /* threads of the last attachment may still be at their end, reading it */
        host = found;
    return PF_OK;
}

int host_has(const void *address)
{
    Dl_info its, ours;
    void *known;

    memcpy(&known, &host.pjsip_tpmgr_set_state_cb, sizeof known);
    return dladdr(address, &its) && dladdr(known, &ours) && its.dli_fbase == ours.dli_fbase;
}

static void keep_answer(pj_status_t status, void *token, const pjsip_server_addresses *addresses)
{
    int *fits = token;
    const pj_sockaddr *address;

    if (status != PJ_SUCCESS || answer_count(addresses) != 1)
        return;
    address = answer_address(addresses, 0);
    *fits = answer_type(addresses, 0) == PJSIP_TRANSPORT_TCP && answer_length(addresses, 0) == sizeof(pj_sockaddr_in) &&
            address->ipv4.sin_family == AF_INET && address->ipv4.sin_port == htons(5099) &&
            address->ipv4.sin_addr.s_addr == htonl(0xC0000201);
}

/* Has pjsip resolve a literal address, which it does at once and without a packet, and looks at its answer. */
static int check_addresses(pjsip_endpoint *endpt)
{
    pj_pool_t *pool = host.pjsip_endpt_create_pool(endpt, "pjfail", 1000, 1000);
    pjsip_resolver_t *resolver;
    pjsip_host_info target;
    int fits = 0;

    if (!pool)
        return 0;
    if (host.pjsip_resolver_create(pool, &resolver) != PJ_SUCCESS) {
        host.pjsip_endpt_release_pool(endpt, pool);
        return 0;
    }
    memset(&target, 0, sizeof target);
    target.flag = PJSIP_TRANSPORT_RELIABLE;
    target.type = PJSIP_TRANSPORT_TCP;
    target.addr.host.ptr = "192.0.2.1";
    target.addr.host.slen = 9;
    target.addr.port = 5099;
    host.pjsip_resolve(resolver, pool, &target, &fits, &keep_answer);
    host.pjsip_resolver_destroy(resolver);
    host.pjsip_endpt_release_pool(endpt, pool);
    return fits;
}

/* Makes a request that is never sent, marks it, and looks for the marks. Tells which structure is not as compiled. */
static const char *check_tdata(pjsip_endpoint *endpt)
{
    static const pj_str_t target = { "sip:pjfail.invalid", 18 }, from = { "<sip:pjfail@pjfail.invalid>", 27 };
    const char *wrong = NULL;
    pjsip_tx_data *tdata;
    pjsip_tpselector mark;
    pjsip_msg *msg;

    if (host.pjsip_endpt_create_request(endpt, host.pjsip_get_options_method(), &target, &from, &from, NULL, NULL, 7,
                                        NULL, &tdata) != PJ_SUCCESS)
        return "pjsip_endpt_create_request()";
    msg = tdata_msg(tdata);
    if (!tdata_pool(tdata) || !msg || msg->type != PJSIP_REQUEST_MSG || msg->line.req.method.id != PJSIP_OPTIONS_METHOD)
        wrong = "pjsip_tx_data.msg";
    memset(&mark, 0, sizeof mark);
    mark.type = PJSIP_TPSELECTOR_IP_VER;
    mark.u.ip_ver = PJSIP_TPSELECTOR_PREFER_IPV6;
    if (!wrong && (host.pjsip_tx_data_set_transport(tdata, &mark) != PJ_SUCCESS ||
                   tdata_selector(tdata)->type != PJSIP_TPSELECTOR_IP_VER ||
                   tdata_selector(tdata)->u.ip_ver != PJSIP_TPSELECTOR_PREFER_IPV6))
        wrong = "pjsip_tx_data.tp_sel (PJSIP_MAX_RESOLVED_ADDRESSES, PJ_HAS_IPV6)";
    host.pjsip_tx_data_dec_ref(tdata);
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
    if (!check_addresses(endpt))
        return host_problem(PF_BAD_LAYOUT, 0, "pjsip_server_addresses");
    wrong = check_tdata(endpt);
    if (wrong)
        return host_problem(PF_BAD_LAYOUT, 0, "%s", wrong);
    return PF_OK;
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

double host_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}
