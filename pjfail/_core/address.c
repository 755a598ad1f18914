#include "address.h"

#include "hash_table.h"

#include <ctype.h>
#include <string.h>
#include <sys/socket.h>

int address_of(pf_address *address, const pj_sockaddr *sockaddr, int pjsip_type)
{
    memset(address, 0, sizeof *address);
    switch (pjsip_type & ~PJSIP_TRANSPORT_IPV6) {
    case PJSIP_TRANSPORT_UDP: address->transport = PF_UDP; break;
    case PJSIP_TRANSPORT_TCP: address->transport = PF_TCP; break;
    case PJSIP_TRANSPORT_TLS: address->transport = PF_TLS; break;
    default: return 0;
    }
    if (sockaddr->addr.sa_family == AF_INET) {
        address->family = 4;
        address->port = ntohs(sockaddr->ipv4.sin_port);
        memcpy(address->ip, &sockaddr->ipv4.sin_addr, 4);
    } else if (sockaddr->addr.sa_family == AF_INET6) {
        address->family = 6;
        address->port = ntohs(sockaddr->ipv6.sin6_port);
        address->scope = sockaddr->ipv6.sin6_scope_id;
        memcpy(address->ip, &sockaddr->ipv6.sin6_addr, 16);
    } else {
        return 0;
    }
    return 1;
}

int address_to_sockaddr(const pf_address *address, pj_sockaddr *sockaddr)
{
    memset(sockaddr, 0, sizeof *sockaddr);
    if (address->family == 4) {
        sockaddr->ipv4.sin_family = AF_INET;
        sockaddr->ipv4.sin_port = htons(address->port);
        memcpy(&sockaddr->ipv4.sin_addr, address->ip, 4);
        return sizeof sockaddr->ipv4;
    }
    sockaddr->ipv6.sin6_family = AF_INET6;
    sockaddr->ipv6.sin6_port = htons(address->port);
    sockaddr->ipv6.sin6_scope_id = address->scope;
    memcpy(&sockaddr->ipv6.sin6_addr, address->ip, 16);
    return sizeof sockaddr->ipv6;
}

int address_pjsip_type(const pf_address *address)
{
    static const int types[] = { PJSIP_TRANSPORT_UNSPECIFIED, PJSIP_TRANSPORT_UDP, PJSIP_TRANSPORT_TCP,
                                 PJSIP_TRANSPORT_TLS };

    return types[address->transport & 3] | (address->family == 6 ? PJSIP_TRANSPORT_IPV6 : 0);
}

pj_str_t address_via_name(int pjsip_type)
{
    switch (pjsip_type & ~PJSIP_TRANSPORT_IPV6) {
    case PJSIP_TRANSPORT_TCP: return (pj_str_t){ "TCP", 3 };
    case PJSIP_TRANSPORT_TLS: return (pj_str_t){ "TLS", 3 };
    default: return (pj_str_t){ "UDP", 3 };
    }
}

uint64_t address_hash(const pf_address *address) { return hash_bytes(HASH_SEED, address, sizeof *address); }

int target_of_host_info(const pjsip_host_info *info, pf_target *target)
{
    pj_ssize_t i;

    if (info->addr.host.slen >= PF_MAX_HOST)
        return 0;
    for (i = 0; i < info->addr.host.slen; i++)
        target->host[i] = (char)tolower((unsigned char)info->addr.host.ptr[i]);
    target->host[i] = '\0';
    target->port = (unsigned short)info->addr.port;
    target->secure = (info->flag & PJSIP_TRANSPORT_SECURE) != 0;
    target->ipv6 = ((int)info->type & PJSIP_TRANSPORT_IPV6) != 0;
    switch ((int)info->type & ~PJSIP_TRANSPORT_IPV6) {
    case PJSIP_TRANSPORT_UNSPECIFIED: target->transport = PF_ANY; return 1;
    case PJSIP_TRANSPORT_UDP: target->transport = PF_UDP; return 1;
    case PJSIP_TRANSPORT_TCP: target->transport = PF_TCP; return 1;
    case PJSIP_TRANSPORT_TLS:
        target->transport = PF_TLS;
        target->secure = 1;
        return 1;
    default: return 0;
    }
}

uint64_t target_hash(const pf_target *target)
{
    const unsigned short rest[] = { target->port, target->transport, target->secure, target->ipv6 };

    return hash_bytes(hash_bytes(HASH_SEED, target->host, strlen(target->host)), rest, sizeof rest);
}
