/*
 * keepalive.h: TCP keepalive for pjsip's connections, so that one ends whose other end is gone without a word.
 */
#pragma once

#include "layout.h"

/*
 * Has the system end the connections to the peer, TCP or TLS, after so many seconds in which the other end acknowledges nothing. Does
 * nothing for 0. SIP threads; takes no lock, and as long as a look at each open file of the process.
 */
void keepalive_set(const pj_sockaddr *peer, double seconds);
