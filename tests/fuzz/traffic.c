/*
 * traffic.c: requests and calls under way while somebody else answers them with anything. Without Python:
 *
 *     traffic ONE_IN UDP-PORT UDP-PORT TCP-PORT TCP-PORT
 *
 * Sends requests to two servers over UDP and to two over TCP, all at 127.0.0.1, until a line arrives on standard input.
 * One in ONE_IN of the core's allocations fails meanwhile (0: none does; failing.h). Prints how the requests have
 * ended, once all have. Then waits for another line, sends a hundred more requests, and prints how these have ended.
 */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client.h"
#include "failing.h"

/* pjsip waits for a response for TIMEOUT_S, not for 32 s. */
enum { RATE = 300, TIMEOUT_S = 6, PATIENCE_S = 20, SERVERS = 2, CHECKS = 100, CALL_EVERY = 50, MOST_REQUESTS = 100000 };

static struct {
    atomic_int sent, ended, twice, well;
} requests, invites;

/* All that were sent. Their memory stays: a request must not end twice. */
static struct request {
    int is_invite;
    atomic_int ends;
} all[MOST_REQUESTS];
static int known;

/* Called by a polling thread, or by the sending one. */
static void on_end(void *token, pjsip_event *event)
{
    struct request *request = token;

    if (atomic_fetch_add(&request->ends, 1))
        atomic_fetch_add(request->is_invite ? &invites.twice : &requests.twice, 1);
    else
        atomic_fetch_add(request->is_invite ? &invites.ended : &requests.ended, 1);
    if (event->body.tsx_state.tsx->status_code == PJSIP_SC_OK)
        atomic_fetch_add(request->is_invite ? &invites.well : &requests.well, 1);
}

/* Where pjsip_endpt_send_request() fails, pjsip has called on_end() too. */
static void send_one(const char *method, const char *uri)
{
    struct request *request = &all[known++];

    request->is_invite = !strcmp(method, "INVITE");
    atomic_fetch_add(request->is_invite ? &invites.sent : &requests.sent, 1);
    client_request(method, uri, request, &on_end);
}

/* Whether a line has arrived on standard input; ends with it. */
static int told(void)
{
    fd_set readable;
    struct timeval at_once = { 0, 0 };

    FD_ZERO(&readable);
    FD_SET(0, &readable);
    return select(1, &readable, NULL, NULL, &at_once) > 0;
}

static void hear(void)
{
    char line[16];

    if (!fgets(line, sizeof line, stdin))
        exit(1);
}

static void report(const char *phase)
{
    pf_counters counters;

    pf_read_counters(&counters);
    printf("{\"phase\": \"%s\", \"sent\": %d, \"ended\": %d, \"twice\": %d, \"well\": %d, ", phase,
           atomic_load(&requests.sent), atomic_load(&requests.ended), atomic_load(&requests.twice),
           atomic_load(&requests.well));
    printf("\"invites\": %d, \"invites_twice\": %d, \"retried\": %llu, \"suppressed\": %llu, ",
           atomic_load(&invites.sent), atomic_load(&invites.twice), counters.retried, counters.suppressed);
    printf("\"waiting\": %llu, \"failed_allocations\": %u}\n", counters.waiting, failing_share(0));
    fflush(stdout);
}

/* Until all requests have ended but the INVITEs, of which those that ring do so for ever. */
static void wait_for_ends(void)
{
    double until = client_now() + PATIENCE_S;

    while (atomic_load(&requests.ended) < atomic_load(&requests.sent) && client_now() < until)
        client_sleep_until(client_now() + 0.05);
}

static void call(const char *uri, pjsua_acc_id account)
{
    pj_str_t target = { (char *)uri, (pj_ssize_t)strlen(uri) };

    pjsua_call_make_call(account, &target, NULL, NULL, NULL, NULL);
}

int main(int words, char **word)
{
    static const char *const uris[] = { "sip:udp.test", "sip:tcp.test;transport=tcp", "sip:unknown.test" };
    static const char *const methods[] = { "OPTIONS", "MESSAGE", "REGISTER", "INVITE", "SUBSCRIBE", "OPTIONS" };
    pf_address servers[2][SERVERS];
    pjsua_acc_config config;
    pjsua_acc_id account;
    double began;
    int i;

    if (words != 6)
        return 2;
    for (i = 0; i < SERVERS; i++) {
        servers[0][i] = client_server("127.0.0.1", atoi(word[2 + i]), PF_UDP);
        servers[1][i] = client_server("127.0.0.1", atoi(word[4 + i]), PF_TCP);
    }
    pjsip_cfg()->tsx.td = TIMEOUT_S * 1000;
    if (!client_start(2) || !client_attach() || !client_publish("udp.test", PF_ANY, servers[0], SERVERS) ||
        !client_publish("tcp.test", PF_TCP, servers[1], SERVERS))
        return 1;
    pjsua_set_null_snd_dev();
    pjsua_acc_config_default(&config);
    config.id = pj_str("<sip:test@unit.test>");
    if (pjsua_acc_add(&config, PJ_TRUE, &account) != PJ_SUCCESS)
        return 1;

    failing_share((unsigned)atoi(word[1]));
    began = client_now();
    for (i = 0; i < MOST_REQUESTS - CHECKS && !told(); i++) {
        send_one(methods[i % 6], uris[i % 40 == 0 ? 2 : i % 3 == 0]);
        if (i % CALL_EVERY == 0)
            call(uris[i / CALL_EVERY % 2], account);
        if (i % CALL_EVERY == CALL_EVERY / 2)
            pjsua_call_hangup_all();
        client_sleep_until(began + (double)i / RATE);
    }
    hear();
    pjsua_call_hangup_all();
    failing_share(0);
    wait_for_ends();
    report("fire");

    hear();
    atomic_store(&requests.sent, 0);
    atomic_store(&requests.ended, 0);
    atomic_store(&requests.well, 0);
    for (i = 0; i < CHECKS; i++) {
        send_one("OPTIONS", uris[i % 2]);
        client_sleep_until(client_now() + 0.005);
    }
    wait_for_ends();
    report("check");
    client_detach();
    pjsua_destroy();
    return 0;
}
