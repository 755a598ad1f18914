#include "client.h"

#include <arpa/inet.h>
#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

enum { ANSWER_DEADLINE_S = 3, POLL_MS = 50 };

static struct {
    int attachment;
    pthread_t fetcher;
    atomic_int fetching;
} client;

double client_now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

double client_cpu(void)
{
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1e-6;
}

void client_sleep_until(double when)
{
    struct timespec time = { (time_t)when, (long)((when - floor(when)) * 1e9) };

    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL);
}

int client_start(int polling_threads)
{
    pjsua_config config;
    pjsua_logging_config logging;
    pjsua_transport_config transport;

    pj_log_set_level(0);
    pjsua_config_default(&config);
    config.thread_cnt = (unsigned)polling_threads;
    pjsua_logging_config_default(&logging);
    logging.level = logging.console_level = 0;
    pjsua_transport_config_default(&transport);
    transport.bound_addr = pj_str("127.0.0.1");
    return pjsua_create() == PJ_SUCCESS && pjsua_init(&config, &logging, NULL) == PJ_SUCCESS &&
           pjsua_transport_create(PJSIP_TRANSPORT_UDP, &transport, NULL) == PJ_SUCCESS &&
           pjsua_transport_create(PJSIP_TRANSPORT_TCP, &transport, NULL) == PJ_SUCCESS && pjsua_start() == PJ_SUCCESS;
}

/* The fetching thread. Fetches what the core asks and reports, and knows no answer. */
static void *client_fetch(void *unused)
{
    pf_query *question;
    pf_failover *failover;
    pf_response *response;
    pf_registration *registration;
    pf_outcome outcomes[64];

    while (atomic_load(&client.fetching)) {
        struct pollfd events = { pf_event_fd(), POLLIN, 0 };

        poll(&events, 1, POLL_MS);
        for (; (question = pf_next_query()); pf_free(question))
            pf_fail(&question->target, question->id, 1);
        for (; (failover = pf_next_failover()); pf_free(failover))
            ;
        for (; (response = pf_next_response()); pf_free(response))
            ;
        for (; (registration = pf_next_registration()); pf_free(registration))
            ;
        while (pf_next_outcomes(outcomes, 64))
            ;
    }
    return unused;
}

int client_attach(void)
{
    static const pf_retry_policy policy = {
        .enabled = 1,
        .timeouts = { { "REGISTER", 0.5 }, { "OPTIONS", 0.5 }, { "MESSAGE", 0.5 }, { "INVITE", 1.5 } },
        .timeout_count = 4,
        .codes = { 503 },
        .code_count = 1,
        .connection_attempt_delay = 0.25,
        .hedge_budget = 0.1,
        .port_check = 1,
    };

    pf_set_retry_policy(&policy);
    if (pf_host_open(NULL) != PF_OK || pf_host_check() != PF_OK ||
        pf_attach(ANSWER_DEADLINE_S, &client.attachment) != PF_OK) {
        fprintf(stderr, "pjfail is not attached: %s\n", pf_problem());
        return 0;
    }
    atomic_store(&client.fetching, 1);
    return pthread_create(&client.fetcher, NULL, &client_fetch, NULL) == 0;
}

void client_detach(void)
{
    pf_detach(client.attachment);
    atomic_store(&client.fetching, 0);
    pthread_join(client.fetcher, NULL);
}

pf_address client_server(const char *ip, int port, int transport)
{
    pf_address server = { .family = 4, .transport = (unsigned char)transport, .port = (unsigned short)port };

    inet_pton(AF_INET, ip, server.ip);
    return server;
}

int client_publish(const char *domain, int transport, const pf_address *servers, int count)
{
    pf_target target = { .transport = (unsigned char)transport };
    pf_entry plan[PF_MAX_ENTRIES] = { 0 };
    int i;

    snprintf(target.host, sizeof target.host, "%s", domain);
    for (i = 0; i < count; i++) {
        plan[i].server = servers[i];
        plan[i].tier = plan[i].group = (unsigned short)i;
    }
    return pf_publish(&target, plan, count, count, INFINITY, INFINITY);
}

int client_request(const char *method, const char *uri, void *token, void (*on_end)(void *token, pjsip_event *event))
{
    pjsip_endpoint *endpt = pjsua_get_pjsip_endpt();
    const pj_str_t target = { (char *)uri, (pj_ssize_t)strlen(uri) }, from = { "<sip:test@unit.test>", 20 };
    pj_str_t name = { (char *)method, (pj_ssize_t)strlen(method) };
    pjsip_method parsed;
    pjsip_tx_data *tdata;

    pjsip_method_init_np(&parsed, &name);
    return pjsip_endpt_create_request(endpt, &parsed, &target, &from, &target, NULL, NULL, -1, NULL, &tdata) ==
               PJ_SUCCESS &&
           pjsip_endpt_send_request(endpt, tdata, -1, token, on_end) == PJ_SUCCESS;
}
