/*
 * request_info.h: what is known of the request that is to be sent, so that requests which belong together stay
 * together.
 */
#pragma once

#include "pjfail.h"

struct request_info {
    pf_address server; /* the server that last answered its Call-ID, or that its account follows; family 0: none */
    int in_dialog;     /* the request has a To tag */
    int bound;         /* it must go to server if the plan has it: a dialog, or the answer to a challenge */
    int may_move;      /* it is bound as a dialog is, and its cluster takes over the dialogs of servers that fail */
    int follows;       /* it goes to server first if the plan has it, and it is not suspect */
    int sends;         /* a request is being sent: the token is a pjsip_send_state */
    int large;         /* it is too large for UDP: pjsip sends it over TCP to servers that are there for UDP */
    int prefers;       /* the family, 4 or 6, whose addresses pjsip puts first in our answer; 0: none */
    int free_to_race;  /* the application has chosen no connection for it */
};
