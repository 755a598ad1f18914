/*
 * request_info.h: what a message tells of the request that is to be sent, so that what belongs together stays together.
 */
#pragma once

#include "pjfail.h"

struct request_info {
    pf_address server; /* the one that its Call-ID was last answered by, or its account follows; family 0: none */
    int in_dialog;     /* it has a To tag */
    int bound;         /* it must go there if that server is in the plan: a dialog, or a challenge's answer */
    int may_move;      /* it is bound as a dialog is, and its cluster takes over the dialogs of servers that fail */
    int follows;       /* it goes there first if that server is in the plan and not suspect */
    int sends;         /* a request is being sent: its token is a pjsip_send_state */
    int large;         /* it is too large for UDP: pjsip sends it over TCP to servers that are there for UDP */
    int prefers;       /* the family, 4 or 6, whose addresses pjsip puts first in our answer; 0: none */
    int free_to_race;  /* the application has chosen no connection for it */
};
