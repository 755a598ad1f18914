#include "keepalive.h"

#include <dirent.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* Of the time in which the other end must acknowledge something, this share passes before it is first asked to. */
#define QUIET_SHARE 0.5
/* So often it is asked in the rest of the time. */
#define PROBES 2

/* Returns whether fd is a TCP socket that is connected to the peer. */
static int keepalive_leads_to(int fd, const pj_sockaddr *peer)
{
    pj_sockaddr address;
    socklen_t size = sizeof address, kind_size = sizeof(int);
    int kind = 0;

    memset(&address, 0, sizeof address);
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &kind, &kind_size) != 0 || kind != SOCK_STREAM ||
        getpeername(fd, (struct sockaddr *)&address, &size) != 0 || address.addr.sa_family != peer->addr.sa_family)
        return 0;
    if (address.addr.sa_family == AF_INET)
        return address.ipv4.sin_port == peer->ipv4.sin_port &&
               address.ipv4.sin_addr.s_addr == peer->ipv4.sin_addr.s_addr;
    return address.addr.sa_family == AF_INET6 && address.ipv6.sin6_port == peer->ipv6.sin6_port &&
           !memcmp(&address.ipv6.sin6_addr, &peer->ipv6.sin6_addr, sizeof peer->ipv6.sin6_addr);
}

static void keepalive_set_socket(int fd, double seconds)
{
    const int on = 1, quiet = seconds * QUIET_SHARE > 1 ? (int)(seconds * QUIET_SHARE) : 1;
    const int between = (seconds - quiet) / PROBES > 1 ? (int)((seconds - quiet) / PROBES) : 1;
    const unsigned most = (unsigned)(seconds * 1000);

    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &quiet, sizeof quiet);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &between, sizeof between);
    /* While octets of ours are under way the system sends no keepalive, and gives up after a quarter of an hour. */
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &most, sizeof most);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
}

/*
 * pjsip tells the socket of a TCP transport, in some versions, and of a TLS transport in none; so we look for the sockets
 * that lead to the same server.
 */
void keepalive_set(const pj_sockaddr *peer, double seconds)
{
    struct dirent *entry;
    DIR *files;

    if (seconds <= 0 || (files = opendir("/proc/self/fd")) == NULL)
        return;
    while ((entry = readdir(files)) != NULL) {
        int fd = (int)strtol(entry->d_name, NULL, 10);

        if (entry->d_name[0] != '.' && keepalive_leads_to(fd, peer))
            keepalive_set_socket(fd, seconds);
    }
    closedir(files);
}
