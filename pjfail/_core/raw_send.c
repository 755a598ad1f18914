#include "raw_send.h"

#include "address.h"

#include <arpa/inet.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>

static atomic_int raw_send_is_logged;

void raw_send_set_logged(int logged) { atomic_store(&raw_send_is_logged, logged); }

/* Logs the message as pjsua logs those that pjsip sends: at the same level, in the same form. */
static void raw_send_log(const pf_address *server, const char *bytes, size_t size)
{
    const int sixth = server->family == 6;
    const pj_str_t transport = address_via_name(address_pjsip_type(server));
    char ip[INET6_ADDRSTRLEN];

    if (atomic_load_explicit(&raw_send_is_logged, memory_order_relaxed) &&
        inet_ntop(sixth ? AF_INET6 : AF_INET, server->ip, ip, sizeof ip))
        host_log(4, "TX %d bytes by pjfail to %.*s %s%s%s:%d:\n%.*s\n--end msg--", (int)size, (int)transport.slen,
                 transport.ptr, sixth ? "[" : "", ip, sixth ? "]" : "", server->port, (int)size, bytes);
}

static void raw_send_datagram(pjsip_transport *udp, const pf_address *server, const char *bytes, size_t size)
{
    pj_sockaddr address;
    int length = address_to_sockaddr(server, &address);

    /* A datagram that cannot be sent counts as lost. */
    (void)!sendto((int)host.pjsip_udp_transport_get_socket(udp), bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL,
                  (const struct sockaddr *)&address, (socklen_t)length);
}

pj_status_t raw_send_connect(const pf_address *server, const char *host_name, const pjsip_tpselector *selector,
                             pjsip_transport **connection)
{
    pj_str_t name = { (char *)host_name, (pj_ssize_t)strlen(host_name) };
    pj_sockaddr address;
    int length = address_to_sockaddr(server, &address);
    dummy_tdata dummy_tdata;

    memset(&dummy_tdata, 0, sizeof dummy_tdata);
    dummy_tdata_set_name(&dummy_tdata, &name);
    return host.pjsip_endpt_acquire_transport2(host_endpoint(), (pjsip_transport_type_e)address_pjsip_type(server),
                                               &address, length, selector, &dummy_tdata.tdata, connection);
}

/* Does nothing: a connection that fails tells so itself. pjsip (2.17, sip_util.c:1589) calls it without a look whether it is there. */
static void raw_send_on_sent(void *token, pjsip_tx_data *tdata, pj_ssize_t sent)
{
    (void)token;
    (void)tdata;
    (void)sent;
}

pj_status_t raw_send_over(pjsip_transport *transport, const pf_address *server, const char *bytes, size_t size)
{
    const pj_sockaddr *peer = transport_peer(transport);
    pjsip_tpselector selector;
    pj_status_t status;

    raw_send_log(server, bytes, size);
    if (transport_is_udp(transport)) {
        raw_send_datagram(transport, server, bytes, size);
        return PJ_SUCCESS;
    }
    memset(&selector, 0, sizeof selector);
    selector.type = PJSIP_TPSELECTOR_TRANSPORT;
    selector.u.transport = transport;
    status = host.pjsip_endpt_send_raw(
        host_endpoint(), (pjsip_transport_type_e)transport_type(transport), &selector, bytes, size, peer,
        peer->addr.sa_family == AF_INET ? (int)sizeof peer->ipv4 : (int)sizeof peer->ipv6, NULL, &raw_send_on_sent);
    return status == PJ_EPENDING ? PJ_SUCCESS : status;
}
