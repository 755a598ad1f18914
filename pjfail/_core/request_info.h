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
    int follows;       /* it goes to server first if the plan has it, and it is not suspect */
    int sends;         /* a request is being sent: the token is a pjsip_send_state */
    int free_to_race;  /* it may use any connection, so attempts side by side are allowed */
};
