/*
 * keepalive.h: TCP keepalive for pjsip's connections, so that one ends whose other end is gone without a word.
 */
#pragma once

#include "layout.h"

/*
 * Has the system end the connections to the peer, TCP or TLS, after so many seconds in which the other end acknowledges
 * nothing; does nothing for 0. SIP and Python threads, no lock held; takes as long as a look at each open file of the
 * process, and so is called once for each new connection.
 */
void keepalive_set(const pj_sockaddr *peer, double seconds);
