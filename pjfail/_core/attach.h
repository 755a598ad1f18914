/*
 * attach.h: plugs the parts into the endpoint, and takes them out again, leaving pjsip as it was found. pjfail.h
 * declares what Python calls.
 *
 * Python attaches and detaches pjfail; the end of the endpoint detaches it too. Each attachment has its own thread,
 * unknown to Python. This thread registers the module, ticks, and, after the detach, once no other thread is inside
 * the gate, frees what the parts hold. A thread that detaches, or that leaves the gate, may hold any of pjsip's locks;
 * this thread holds none.
 *
 * The order of locks; "a > b": b may be taken while a is held. A lock that is not listed is held alone, and nothing is
 * called with it held.
 *
 *     attach.lock > poller.wake_lock, servers.lock, those of the parts that are opened; pjsip's, but no transaction's
 *     poller.tick_lock > queries.lock, event_queue.lock, requests.lock, poller.wake_lock
 *     queries.lock > servers.lock, poller.wake_lock
 *     the locks of affinity.c, standby.c and outgoing.c > poller.wake_lock
 *     races.lock (connection_attempts.c) > connections.lock
 *     requests.lock, connections.lock > servers.lock
 *     registrations.lock > event_queue.lock
 *     dns.lock > pjsip's lock of a DNS resolver
 *     pjsua's lock of accounts (accounts.c) > whatever pjsua takes
 *     a transaction's lock of pjsip's > all of ours but attach.lock: pjsip holds it while it sends. So hold none of
 *     ours while you work with one of pjsip's transactions, transports or messages.
 */
#pragma once

#include "pjfail.h"
