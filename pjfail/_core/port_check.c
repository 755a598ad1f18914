#include "port_check.h"

#include "address.h"
#include "lock.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* The most ports that are checked, or were within the last second; others are not checked. */
enum { MAX_PORTS = 32 };

#define CHECK_INTERVAL_S 1.0

/*
 * Seconds until the first look for an ICMP; each later look comes when twice the time has passed. A port without an
 * ICMP after a second is not closed.
 */
#define FIRST_LOOK_S 0.01
#define LAST_LOOK_S 0.5

/* Seconds after the first ICMP until the server is checked again, from another socket. */
#define SECOND_CHECK_S 0.05

struct port {
    pf_address server; /* family 0: this entry is free */
    double since, due; /* due: INFINITY: the check has ended */
    int socket;        /* -1: none */
    int refusals;
    int again;            /* 1: once this check has ended, there is another, CHECK_INTERVAL_S after it began */
    pj_sockaddr local;    /* the local address to send from, with port 0 */
    socklen_t local_size; /* 0: any local address */
};

/* Guarded by lock. */
static struct {
    pthread_mutex_t lock;
    struct port ports[MAX_PORTS];
} port_check = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* Returns a socket that has sent the server an empty line; -1: that could not be sent. */
static int port_check_open_socket(const struct port *port)
{
    pj_sockaddr peer;
    socklen_t length = (socklen_t)address_to_sockaddr(&port->server, &peer);
    int asking = socket(peer.addr.sa_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (asking < 0)
        return -1;
    if (port->local_size)
        (void)!bind(asking, (const struct sockaddr *)&port->local, port->local_size);
    if (connect(asking, (const struct sockaddr *)&peer, length) == 0 && send(asking, "\r\n", 2, MSG_NOSIGNAL) == 2)
        return asking;
    close(asking);
    return -1;
}

/*
 * Sets the address to ask from, that of pjsip's own transport: a server, or a firewall, may know this host by that
 * address alone.
 */
static void port_check_set_local_locked(struct port *port, pjsip_transport *udp)
{
    pj_sockaddr *local = &port->local;

    port->local_size = udp ? sizeof *local : 0;
    if (!udp)
        return;
    if (getsockname((int)host.pjsip_udp_transport_get_socket(udp), (struct sockaddr *)local, &port->local_size) != 0)
        port->local_size = 0;
    else
        *(local->addr.sa_family == AF_INET ? &local->ipv4.sin_port : &local->ipv6.sin6_port) = 0;
}

static void port_check_stop_locked(struct port *port)
{
    if (port->socket >= 0)
        close(port->socket);
    port->socket = -1;
    port->due = INFINITY;
}

/* Asks the server, for the first time or again. */
static void port_check_ask_locked(struct port *port, double now)
{
    if (port->again)
        port->refusals = 0;
    port->again = 0;
    port->socket = port_check_open_socket(port);
    port->since = now;
    port->due = port->socket < 0 ? INFINITY : now + FIRST_LOOK_S;
}

/* Has the server asked again, a second after it was asked for the last time. Returns when it is to be looked at. */
static double port_check_repeat_locked(struct port *port)
{
    if (port->socket >= 0 || isinf(port->due))
        port->again = 1;
    if (isinf(port->due))
        port->due = port->since + CHECK_INTERVAL_S;
    return port->due;
}

double port_check_start(const pf_address *server, pjsip_transport *udp, int overdue, double now)
{
    HOLD_LOCK(&port_check.lock);
    struct port *port = NULL;
    double due = INFINITY;
    int i;

    for (i = 0; i < MAX_PORTS; i++) {
        struct port *each = &port_check.ports[i];

        if (each->server.family && !each->again && each->since + CHECK_INTERVAL_S <= now) {
            port_check_stop_locked(each);
            memset(each, 0, sizeof *each);
        }
        if (each->server.family && !memcmp(&each->server, server, sizeof *server)) {
            if (overdue)
                due = port_check_repeat_locked(each);
            break;
        }
        if (!each->server.family)
            port = each;
    }
    if (port && i == MAX_PORTS) {
        port->server = *server;
        port_check_set_local_locked(port, udp);
        port_check_ask_locked(port, now);
        due = port->due;
    }
    return due;
}

/* Returns whether an ICMP has come; otherwise sets the time of the next look, or ends the check. */
static int port_check_look_locked(struct port *port, double now)
{
    char answer[16];
    ssize_t received = recv(port->socket, answer, sizeof answer, MSG_DONTWAIT);
    int refused = received < 0 && errno == ECONNREFUSED;

    if (received < 0 && errno == EAGAIN && now < port->since + LAST_LOOK_S) {
        port->due = now + fmax(now - port->since, FIRST_LOOK_S);
    } else {
        port_check_stop_locked(port);
        port->again &= !refused;
        if (refused && !port->refusals++)
            port->due = now + SECOND_CHECK_S;
        else if (port->again)
            port->due = port->since + CHECK_INTERVAL_S;
    }
    return refused;
}

int port_check_next_refused(double now, pf_address *server, double *due)
{
    int refusals = 0, i;

    *due = INFINITY;
    pthread_mutex_lock(&port_check.lock);
    for (i = 0; i < MAX_PORTS && !refusals; i++) {
        struct port *port = &port_check.ports[i];

        if (!port->server.family || isinf(port->due))
            continue;
        if (port->due <= now && port->socket < 0) {
            port_check_ask_locked(port, now);
        } else if (port->due <= now && port_check_look_locked(port, now)) {
            refusals = port->refusals;
            *server = port->server;
        }
        *due = fmin(*due, port->due);
    }
    pthread_mutex_unlock(&port_check.lock);
    return refusals;
}

void port_check_close(void)
{
    HOLD_LOCK(&port_check.lock);
    int i;

    for (i = 0; i < MAX_PORTS; i++) {
        if (port_check.ports[i].server.family)
            port_check_stop_locked(&port_check.ports[i]);
        memset(&port_check.ports[i], 0, sizeof port_check.ports[i]);
    }
}
