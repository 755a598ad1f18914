/*
 * attach.h: plugs the parts into the endpoint and takes them out again, leaving pjsip as it was found. What Python calls stands in
 * pjfail.h.
 *
 * pjfail is attached and detached by Python, or detached by the endpoint's own end. Each attachment has a thread of its own,
 * unknown to Python. It registers the module, ticks, and after the detach clears what the parts hold, once nobody is inside the
 * gate: a thread that detaches, or leaves the gate, may hold any lock of pjsip's, and this one holds none.
 *
 * The order of locks; "a > b": b may be taken while a is held. What is not named here is held alone, and nothing is called with it.
 *
 *     attach.lock > poller.wake_lock, servers.lock, and those of the parts that are opened; pjsip's, but no transaction's
 *     poller.tick_lock > queries.lock, event_queue.lock, poller.wake_lock
 *     queries.lock > servers.lock, poller.wake_lock
 *     the locks of affinity.c and outgoing.c > poller.wake_lock
 *     requests.lock, connections.lock > servers.lock
 *     dns.lock > pjsip's lock of a DNS resolver
 *     pjsua's lock of accounts (accounts.c) > whatever pjsua takes
 *     a transaction's lock of pjsip's > all of ours but attach.lock: pjsip holds it while it sends. So none of ours is held when one of
 *     pjsip's transactions, transports or messages is worked with.
 */
#pragma once

#include "pjfail.h"
