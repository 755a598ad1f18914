/*
 * inflight.c: the cost of a request while many are in flight. One process with pjsip and the core, without Python:
 *
 *     inflight stock|pjfail silent RATE      sends OPTIONS for 8 s, RATE a second, to two servers that never answer
 *     inflight stock|pjfail ringing RATE     sends INVITEs; the first server rings at once, and declines after 10 s
 *
 * The servers are the same for both: stock pjsip gets them from a resolver that answers at once. Prints one line of
 * JSON with this process's CPU time; the server that answers is another process.
 */
#include <arpa/inet.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client.h"

enum { SENDING_S = 8, RINGING_S = 10, BUFFER = 8 << 20, MESSAGE = 1500, SERVERS = 2 };

#define DOMAIN "inflight.test"

static const char *const addresses[SERVERS] = { "127.0.91.1", "127.0.91.2" };
static pf_address servers[SERVERS];
static atomic_int ended, declined;

/* A UDP socket at this address. What nobody reads, the kernel drops. */
static int open_server(const char *ip, int *port)
{
    struct sockaddr_in own = { .sin_family = AF_INET };
    socklen_t length = sizeof own;
    int size = BUFFER, fd = socket(AF_INET, SOCK_DGRAM, 0);

    inet_pton(AF_INET, ip, &own.sin_addr);
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    if (fd < 0 || bind(fd, (struct sockaddr *)&own, length) != 0 ||
        getsockname(fd, (struct sockaddr *)&own, &length) != 0) {
        perror(ip);
        exit(1);
    }
    *port = ntohs(own.sin_port);
    return fd;
}

/* --- the server that rings, a process of its own ----------------------------------------------------------------- */

struct call {
    double due;
    struct sockaddr_in from;
    size_t size;
    char *headers; /* of the INVITE, behind its first line */
};

static void respond(int fd, const struct call *call, const char *status)
{
    static const char tag[] = ";tag=ringing";
    char response[MESSAGE + 100];
    const char *to = memmem(call->headers, call->size, "\r\nTo: ", 6);
    const char *end = to ? memchr(to + 2, '\r', (size_t)(call->headers + call->size - to - 2)) : NULL;
    int size;

    if (!end)
        return;
    size = snprintf(response, sizeof response, "SIP/2.0 %s%.*s%s%.*s", status, (int)(end - call->headers),
                    call->headers, tag, (int)(call->headers + call->size - end), end);
    sendto(fd, response, (size_t)size, 0, (const struct sockaddr *)&call->from, sizeof call->from);
}

/* Rings for each INVITE at once, and declines it RINGING_S later. Calls are in the order of their due times. */
static void serve(int fd, int most)
{
    struct call *calls = calloc((size_t)most, sizeof *calls);
    int known = 0, done = 0;

    for (;;) {
        struct timeval wait = { 0, 1000 };
        struct sockaddr_in from;
        socklen_t length = sizeof from;
        char request[MESSAGE];
        ssize_t size;

        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
        size = recvfrom(fd, request, sizeof request, 0, (struct sockaddr *)&from, &length);
        if (size > 7 && !memcmp(request, "INVITE ", 7) && known < most) {
            struct call *call = &calls[known++];
            const char *line = memchr(request, '\r', (size_t)size);

            if (!line)
                exit(1);
            call->due = client_now() + RINGING_S;
            call->from = from;
            call->size = (size_t)(request + size - line);
            call->headers = memcpy(malloc(call->size), line, call->size);
            respond(fd, call, "180 Ringing");
        }
        for (; done < known && calls[done].due <= client_now(); done++)
            respond(fd, &calls[done], "486 Busy Here");
    }
}

/* --- this process ------------------------------------------------------------------------------------------------- */

/* Answers each question of pjsip on the spot, with all servers. Any thread. */
static void resolve(pjsip_resolver_t *resolver, pj_pool_t *pool, const pjsip_host_info *target, void *token,
                    pjsip_resolver_callback *callback)
{
    pjsip_server_addresses answer;
    unsigned i;

    (void)resolver;
    (void)pool;
    (void)target;
    memset(&answer, 0, sizeof answer);
    for (i = 0; i < SERVERS; i++) {
        pjsip_server_address_record *record = &answer.entry[answer.count++];

        record->type = PJSIP_TRANSPORT_UDP;
        record->priority = i;
        record->addr.ipv4.sin_family = pj_AF_INET();
        record->addr.ipv4.sin_port = htons(servers[i].port);
        memcpy(&record->addr.ipv4.sin_addr, servers[i].ip, 4);
        record->addr_len = sizeof record->addr.ipv4;
    }
    callback(PJ_SUCCESS, token, &answer);
}

static int use_servers(const char *side)
{
    static pjsip_ext_resolver resolver = { &resolve };

    if (!strcmp(side, "stock"))
        return pjsip_endpt_set_ext_resolver(pjsua_get_pjsip_endpt(), &resolver) == PJ_SUCCESS;
    return client_attach() && client_publish(DOMAIN, PF_ANY, servers, SERVERS);
}

static void on_end(void *token, pjsip_event *event)
{
    (void)token;
    atomic_fetch_add(&ended, 1);
    if (event->body.tsx_state.tsx->status_code == PJSIP_SC_BUSY_HERE)
        atomic_fetch_add(&declined, 1);
}

int main(int words, char **word)
{
    int ringing = words > 2 && !strcmp(word[2], "ringing"), rate = words > 3 ? atoi(word[3]) : 0;
    int count = rate * SENDING_S, burst = rate / 100 + 1; /* some 100 bursts a second */
    int i, port, fd[SERVERS];
    double began, sent, cpu;
    pid_t server = 0;

    if (rate <= 0) {
        fprintf(stderr, "usage: inflight stock|pjfail silent|ringing RATE\n");
        return 2;
    }
    for (i = 0; i < SERVERS; i++) {
        fd[i] = open_server(addresses[i], &port);
        servers[i] = client_server(addresses[i], port, PF_UDP);
    }
    if (ringing && !(server = fork())) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        serve(fd[0], count);
    }
    if (!client_start(1) || !use_servers(word[1]))
        return 1;
    began = client_now();
    cpu = client_cpu();
    for (i = 0; i < count; i++) {
        client_sleep_until(began + (double)(i / burst * burst) / rate);
        if (!client_request(ringing ? "INVITE" : "OPTIONS", "sip:" DOMAIN, NULL, &on_end)) {
            fprintf(stderr, "request %d cannot be sent\n", i);
            return 1;
        }
    }
    sent = client_now() - began;
    client_sleep_until(began + SENDING_S);
    while (ringing && atomic_load(&ended) < count && client_now() < began + sent + 2 * RINGING_S)
        client_sleep_until(client_now() + 0.05);
    cpu = client_cpu() - cpu;
    printf("{\"requests\": %d, \"sending_s\": %.3f, \"cpu_s\": %.3f, \"us\": %.2f, \"ended\": %d, \"declined\": %d}\n",
           count, sent, cpu, cpu / count * 1e6, atomic_load(&ended), atomic_load(&declined));
    fflush(stdout);
    if (server > 0)
        kill(server, SIGKILL);
    _exit(0); /* the transactions under way would take another half minute */
}
