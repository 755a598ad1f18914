/*
 * port_check.h: notices that a UDP server's port is closed. Linux reports that (ICMP) to connected sockets only, and
 * on pjsip's own socket it would make sends to other servers fail. So a socket of ours, connected to the server, sends
 * it an empty line, as pjsip's own keep-alive does, and waits for the ICMP.
 *
 * One mutex, no other lock taken inside. Nothing here waits, or takes a key of pjsip's ioqueue.
 */
#pragma once

#include "layout.h"
#include "pjfail.h"

/*
 * Begins to look at the server's port, once a second at the most, from the address that udp sends from (NULL: from
 * any). overdue: a response of the server is overdue, so if its port has been looked at within the last second, there
 * is another look when that second is over. Returns when to call port_check_next_refused(); INFINITY: there is nothing
 * to wait for. SIP threads, whatever they hold.
 */
double port_check_start(const pf_address *server, pjsip_transport *udp, int overdue, double now);

/*
 * Finds a server for whose port an ICMP has come. Returns 1 for the first, which anybody may have forged; 2 for
 * another one soon after, to another socket: the port is closed; 0: none more, and due is when to look again. pjsip's
 * polling thread, no lock held.
 */
int port_check_next_refused(double now, pf_address *server, double *due);

/* Ends all checks. Nobody is inside the gate, no lock held. */
void port_check_close(void);
