/*
 * sip.c: a library that carries pjsip without pjsua, or not even that.
 */
#include <pjlib-util.h>
#include <pjlib.h>
#include <pjsip.h>

#ifdef PJLIB_ALONE

int sip_start(void) { return pj_init(); }

#else

int sip_start(void)
{
    pj_caching_pool *pools = malloc(sizeof *pools);
    pjsip_endpoint *endpt;

    if (!pools || pj_init() != PJ_SUCCESS || pjlib_util_init() != PJ_SUCCESS)
        return 1;
    pj_caching_pool_init(pools, NULL, 0);
    return pjsip_endpt_create(&pools->factory, "sip", &endpt);
}

#endif
