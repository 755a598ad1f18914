/*
 * address.h: converts servers and targets between pjfail's form and pjsip's. Any thread, no lock.
 */
#pragma once

#include "pjfail.h"

#include <pjlib.h>
#include <pjsip.h>
#include <stdint.h>
#include <string.h>

/* Fills in address. Returns 0 if pjfail does not speak this transport or family. */
int address_of(pf_address *address, const pj_sockaddr *sockaddr, int pjsip_type);

/* Fills in sockaddr, and returns its length. */
int address_to_sockaddr(const pf_address *address, pj_sockaddr *sockaddr);

/* Returns the pjsip_transport_type_e. */
int address_pjsip_type(const pf_address *address);

/* Returns what a Via calls that pjsip_transport_type_e: "UDP", "TCP" or "TLS", whatever the family. It lives for ever. */
pj_str_t address_via_name(int pjsip_type);

uint64_t address_hash(const pf_address *address);

static inline int address_equals(const pf_address *one, const pf_address *other)
{
    return !memcmp(one, other, sizeof *one);
}

/* Fills in target. Returns 0 if pjfail cannot look it up: another transport, or too long a name. */
int target_of_host_info(const pjsip_host_info *info, pf_target *target);

uint64_t target_hash(const pf_target *target);
