/*
 * native.c: the loops that are timed. They run in C with the GIL released, and reach pjsip as pjfail does, by dlsym.
 */
#include <pjlib-util.h>
#include <pjlib.h>
#include <pjsip.h>

#include <arpa/inet.h>
#include <dlfcn.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* clang-format off */
#define FUNCTIONS(X)                                                                                             \
    X(pjsua_get_pjsip_endpt) X(pjsip_endpt_create_pool) X(pjsip_endpt_release_pool) X(pjsip_endpt_resolve)       \
    X(pjsip_endpt_create_resolver) X(pjsip_endpt_set_resolver) X(pjsip_endpt_get_resolver)                       \
    X(pj_dns_resolver_set_ns) X(pj_dns_resolver_destroy) X(pjsip_endpt_set_ext_resolver)                         \
    X(pjsip_endpt_create_request) X(pjsip_endpt_send_request) X(pjsip_get_options_method)                            \
    X(pjsip_endpt_register_module) X(pjsip_endpt_unregister_module)
/* clang-format on */

pjsip_endpoint *pjsua_get_pjsip_endpt(void);

static struct {
#define X(name) __typeof__(&name) name;
    FUNCTIONS(X)
#undef X
} host;

static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static int bench_bind(const char *object)
{
    void *handle = dlopen(object, RTLD_NOW | RTLD_NOLOAD);

    if (!handle)
        return 0;
#define X(name)                                                                                                        \
    if (!(*(void **)&host.name = dlsym(handle, #name)))                                                                \
        return 0;
    FUNCTIONS(X)
#undef X
    return 1;
}

/* --- one resolution ---------------------------------------------------------------------------------------------- */

static atomic_int answered;

static void on_answer(pj_status_t status, void *token, const pjsip_server_addresses *addresses)
{
    (void)token;
    if (status == PJ_SUCCESS && addresses->count)
        atomic_fetch_add(&answered, 1);
}

static void target_of(const char *name, pjsip_host_info *target)
{
    memset(target, 0, sizeof *target);
    target->addr.host.ptr = (char *)name;
    target->addr.host.slen = (pj_ssize_t)strlen(name);
}

/*
 * Times count resolutions of the host one by one (seconds); returns how many were answered on the spot. They come in bursts with a
 * pause between, as a SIP thread's do: without one, a loop that takes the GIL each time never lets go of it for long.
 */
static int bench_resolve(const char *name, int count, double *seconds)
{
    enum { BURST = 50, PAUSE_US = 200 };
    pjsip_endpoint *endpt = host.pjsua_get_pjsip_endpt();
    pj_pool_t *pool = NULL;
    pjsip_host_info target;
    int i;

    target_of(name, &target);
    atomic_store(&answered, 0);
    for (i = 0; i < count; i++) {
        double began;

        if (i % BURST == 0) {
            if (pool)
                host.pjsip_endpt_release_pool(endpt, pool);
            usleep(PAUSE_US);
            pool = host.pjsip_endpt_create_pool(endpt, "bench", 4096, 65536);
        }
        began = now();
        host.pjsip_endpt_resolve(endpt, pool, &target, NULL, &on_answer);
        seconds[i] = now() - began;
    }
    i = atomic_load(&answered);
    usleep(200000); /* answers that were late still need their pool */
    host.pjsip_endpt_release_pool(endpt, pool);
    return i;
}

static sem_t found;

static void on_found(pj_status_t status, void *token, const pjsip_server_addresses *addresses)
{
    *(int *)token = status == PJ_SUCCESS ? (int)addresses->count : -1;
    sem_post(&found);
}

/* Seconds from the question to its answer, whoever gives it; negative when that is none. */
static double bench_ask(const char *name)
{
    pjsip_endpoint *endpt = host.pjsua_get_pjsip_endpt();
    pj_pool_t *pool = host.pjsip_endpt_create_pool(endpt, "bench", 4096, 65536);
    pjsip_host_info target;
    double began, ended;
    int count = 0;

    target_of(name, &target);
    sem_init(&found, 0, 0);
    began = now();
    host.pjsip_endpt_resolve(endpt, pool, &target, &count, &on_found);
    sem_wait(&found);
    ended = now();
    usleep(2000); /* who has answered may still look at its pool */
    host.pjsip_endpt_release_pool(endpt, pool);
    return count > 0 ? ended - began : -1;
}

/* Gives the endpoint a DNS resolver of pjsip's own that asks this name server, as pjsua does for its nameserver setting. */
static int bench_use_built_in(const char *address, int port)
{
    pjsip_endpoint *endpt = host.pjsua_get_pjsip_endpt();
    pj_str_t server = { (char *)address, (pj_ssize_t)strlen(address) };
    pj_uint16_t ports[1] = { (pj_uint16_t)port };
    pj_dns_resolver *resolver;

    return host.pjsip_endpt_create_resolver(endpt, &resolver) == PJ_SUCCESS &&
           host.pj_dns_resolver_set_ns(resolver, 1, &server, ports) == PJ_SUCCESS &&
           host.pjsip_endpt_set_resolver(endpt, resolver) == PJ_SUCCESS;
}

/* --- an external resolver in Python, as the pjsip guide would have it -------------------------------------------- */

static void (*python_resolve)(void *target_host, int length, void *answer);

static void resolve_in_python(pjsip_resolver_t *resolver, pj_pool_t *pool, const pjsip_host_info *target, void *token,
                              pjsip_resolver_callback *callback)
{
    pjsip_server_addresses addresses;

    (void)resolver;
    (void)pool;
    memset(&addresses, 0, sizeof addresses);
    python_resolve(target->addr.host.ptr, (int)target->addr.host.slen, &addresses);
    callback(addresses.count ? PJ_SUCCESS : PJ_ERESOLVE, token, &addresses);
}

static void bench_add_answer(void *answer, const char *address, int port)
{
    pjsip_server_addresses *addresses = answer;
    pjsip_server_address_record *record = &addresses->entry[addresses->count++];

    record->type = PJSIP_TRANSPORT_UDP;
    record->addr.ipv4.sin_family = AF_INET;
    record->addr.ipv4.sin_port = htons((unsigned short)port);
    inet_pton(AF_INET, address, &record->addr.ipv4.sin_addr);
    record->addr_len = sizeof record->addr.ipv4;
}

static int bench_use_python(void (*resolve)(void *, int, void *))
{
    static pjsip_ext_resolver resolver = { &resolve_in_python };
    pjsip_endpoint *endpt = host.pjsua_get_pjsip_endpt();

    python_resolve = resolve;
    host.pjsip_endpt_set_resolver(endpt, NULL);
    return host.pjsip_endpt_set_ext_resolver(endpt, resolve ? &resolver : NULL) == PJ_SUCCESS;
}

/* --- requests a second ------------------------------------------------------------------------------------------- */

/* Answers every request on this UDP socket with a 200 that repeats its headers, until it is closed. Its own thread. */
static void *answer_requests(void *argument)
{
    int socket = (int)(intptr_t)argument;
    static const char ok[] = "SIP/2.0 200 OK";
    char request[4096], response[4200];

    for (;;) {
        struct sockaddr_in from;
        socklen_t length = sizeof from;
        ssize_t size = recvfrom(socket, request, sizeof request, 0, (struct sockaddr *)&from, &length);
        char *line = size > 0 ? memchr(request, '\r', (size_t)size) : NULL;

        if (size <= 0)
            return NULL;
        if (!line)
            continue;
        memcpy(response, ok, sizeof ok - 1);
        memcpy(response + sizeof ok - 1, line, (size_t)(request + size - line));
        sendto(socket, response, sizeof ok - 1 + (size_t)(request + size - line), 0, (struct sockaddr *)&from, length);
    }
}

/* A server for bench_requests() at this address; returns its port, 0 when it cannot be had. */
static int bench_serve(const char *address)
{
    struct sockaddr_in own;
    socklen_t length = sizeof own;
    pthread_t thread;
    int fd = socket(AF_INET, SOCK_DGRAM, 0);

    memset(&own, 0, sizeof own);
    own.sin_family = AF_INET;
    inet_pton(AF_INET, address, &own.sin_addr);
    if (fd < 0 || bind(fd, (struct sockaddr *)&own, length) != 0 ||
        getsockname(fd, (struct sockaddr *)&own, &length) != 0 ||
        pthread_create(&thread, NULL, &answer_requests, (void *)(intptr_t)fd) != 0)
        return 0;
    pthread_detach(thread);
    return ntohs(own.sin_port);
}

static struct {
    sem_t window;
    atomic_int well, ended;
} sending;

static void on_end(void *token, pjsip_event *event)
{
    (void)token;
    if (event->body.tsx_state.tsx->status_code == 200)
        atomic_fetch_add(&sending.well, 1);
    atomic_fetch_add(&sending.ended, 1);
    sem_post(&sending.window);
}

/* Sends count OPTIONS to the URI, each a transaction, window at a time; seconds until all have ended, negative if one failed. */
static double bench_requests(const char *uri, int count, int window)
{
    pjsip_endpoint *endpt = host.pjsua_get_pjsip_endpt();
    const pj_str_t target = { (char *)uri, (pj_ssize_t)strlen(uri) }, from = { "<sip:bench@bench.test>", 22 };
    double began = now(), ended;
    int i;

    sem_init(&sending.window, 0, (unsigned)window);
    atomic_store(&sending.well, 0);
    atomic_store(&sending.ended, 0);
    for (i = 0; i < count; i++) {
        pjsip_tx_data *tdata;

        sem_wait(&sending.window);
        if (host.pjsip_endpt_create_request(endpt, host.pjsip_get_options_method(), &target, &from, &target, NULL, NULL,
                                            -1, NULL, &tdata) != PJ_SUCCESS ||
            host.pjsip_endpt_send_request(endpt, tdata, -1, NULL, &on_end) != PJ_SUCCESS)
            return -1;
    }
    while (atomic_load(&sending.ended) < count)
        sem_wait(&sending.window);
    ended = now();
    return atomic_load(&sending.well) == count ? ended - began : -1;
}
