/*
 * embed.c: pjfail's core in a C program, without Python. The program has a plan of its own for its domain: the request
 * under way fails over to the plan's next server, and a server that has failed stays last for half a minute.
 *
 *     make embed
 *     build/embed alice@voip.example 192.0.2.1:5060 192.0.2.2:5060
 *
 * The core is compiled into the program, and finds pjsip in it by dlsym(): link with -rdynamic.
 */
#include <arpa/inet.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <pjsua-lib/pjsua.h>

#include "pjfail.h"

enum { MOST_SERVERS = 8, REGISTER_EVERY = 2 }; /* seconds */

static volatile sig_atomic_t interrupted;

static void on_interrupt(int number) { interrupted = number; }

/* A thread of pjsua. */
static void on_registered(pjsua_acc_id account, pjsua_reg_info *info)
{
    const struct pjsip_regc_cbparam *end = info->cbparam;

    (void)account;
    printf("REGISTER %d %.*s from %s\n", end->code, (int)end->reason.slen, end->reason.ptr,
           end->rdata ? end->rdata->pkt_info.src_name : "no server");
}

static int read_server(const char *text, pf_address *server)
{
    char ip[16];
    int end = 0;

    memset(server, 0, sizeof *server);
    server->family = 4;
    server->transport = PF_UDP;
    return sscanf(text, "%15[0-9.]:%hu%n", ip, &server->port, &end) == 2 && !text[end] && server->port &&
           inet_pton(AF_INET, ip, server->ip) == 1;
}

/* Makes a plan in which earlier servers are preferred. It is valid as long as the program runs. */
static int publish(const char *domain, const pf_address *servers, int count)
{
    pf_target target = { .transport = PF_ANY };
    pf_entry plan[PF_MAX_ENTRIES] = { 0 };
    int i;

    snprintf(target.host, sizeof target.host, "%s", domain);
    for (i = 0; i < count; i++) {
        plan[i].server = servers[i];
        plan[i].tier = plan[i].group = (unsigned short)i;
    }
    return pf_publish(&target, plan, count, count, INFINITY, INFINITY);
}

static int attach(void)
{
    static const pf_retry_policy policy = {
        .enabled = 1,
        .timeouts = { { "REGISTER", 0.5 }, { "OPTIONS", 0.5 }, { "INVITE", 1.5 } },
        .timeout_count = 3,
        .codes = { 503 },
        .code_count = 1,
        .connection_attempt_delay = 0.25,
        .hedge_budget = 0.1,
        .port_check = 1,
    };
    int attachment; /* for pf_detach(); here the end of pjsua detaches */

    pf_set_retry_policy(&policy);
    return pf_host_open(NULL) == PF_OK && pf_host_check() == PF_OK && pf_attach(3.5, &attachment) == PF_OK;
}

/* Waits so many milliseconds at most for queries and events of the core, and handles them. */
static void fetch_events(int milliseconds)
{
    struct pollfd core = { pf_event_fd(), POLLIN, 0 };
    pf_query *query;
    pf_failover *failover;
    pf_outcome outcome;

    poll(&core, 1, milliseconds);
    for (; (query = pf_next_query()); pf_free(query))
        pf_pass(&query->target, query->id); /* a domain without a plan: asks the system's resolver */
    for (; (failover = pf_next_failover()); pf_free(failover))
        printf("%s failed over to the next server after %.1f s\n", failover->method, failover->after);
    while (pf_next_outcomes(&outcome, 1))
        ; /* a policy of your own would publish a new plan now */
}

static pj_status_t start(void)
{
    pjsua_config config;
    pjsua_logging_config logging;
    pjsua_transport_config transport;
    pj_status_t status;

    pjsua_config_default(&config);
    config.cb.on_reg_state2 = &on_registered;
    pjsua_logging_config_default(&logging);
    logging.console_level = 1;
    pjsua_transport_config_default(&transport);
    status = pjsua_create();
    if (status == PJ_SUCCESS)
        status = pjsua_init(&config, &logging, NULL);
    if (status == PJ_SUCCESS)
        status = pjsua_transport_create(PJSIP_TRANSPORT_UDP, &transport, NULL);
    return status == PJ_SUCCESS ? pjsua_start() : status;
}

static pj_status_t add_account(const char *address, const char *domain, pjsua_acc_id *id)
{
    char uri[300], registrar[300];
    pjsua_acc_config config;

    pjsua_acc_config_default(&config);
    snprintf(uri, sizeof uri, "sip:%s", address);
    snprintf(registrar, sizeof registrar, "sip:%s", domain);
    config.id = pj_str(uri);
    config.reg_uri = pj_str(registrar);
    return pjsua_acc_add(&config, PJ_TRUE, id); /* this sends the first REGISTER */
}

/* Registers again every other second, until Ctrl-C. */
static void run(pjsua_acc_id account)
{
    time_t due = time(NULL) + REGISTER_EVERY;

    while (!interrupted) {
        fetch_events(100);
        if (time(NULL) >= due) {
            pjsua_acc_set_registration(account, PJ_TRUE); /* PJ_EBUSY: the last one is under way */
            due = time(NULL) + REGISTER_EVERY;
        }
    }
}

int main(int count, char **words)
{
    const char *at = count > 1 ? strchr(words[1], '@') : NULL, *domain = at ? at + 1 : "";
    pf_address servers[MOST_SERVERS];
    int known = 0, failed = 1;
    pjsua_acc_id account;

    while (known < MOST_SERVERS && known < count - 2 && read_server(words[known + 2], &servers[known]))
        known++;
    if (!*domain || !known || known < count - 2) {
        fprintf(stderr, "usage: embed USER@DOMAIN IP:PORT... (%d at the most)\n", MOST_SERVERS);
        return 2;
    }
    setlinebuf(stdout);
    signal(SIGINT, &on_interrupt);
    if (start() != PJ_SUCCESS) {
        fprintf(stderr, "embed: pjsua does not start\n");
    } else if (!attach() || !publish(domain, servers, known)) {
        fprintf(stderr, "embed: pjfail is not attached: %s\n", pf_problem());
    } else if (add_account(words[1], domain, &account) != PJ_SUCCESS) {
        fprintf(stderr, "embed: \"%s\" is not a valid account\n", words[1]);
    } else {
        run(account);
        failed = 0;
    }
    pjsua_destroy();
    return failed;
}
