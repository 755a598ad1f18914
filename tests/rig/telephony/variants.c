/*
 * variants.c: functions that come before pjsip's own of the same name, and make it another pjsip.
 */
#include <assert.h>
#include <pjsip.h>

#ifdef UNKNOWN_VERSION
const char *pj_get_version(void) { return "2.99"; }
#endif

#ifdef WITHOUT_DNS      /* as one built with PJSIP_HAS_RESOLVER 0, and with assertions */
pj_status_t pjsip_endpt_create_resolver(pjsip_endpoint *endpt, pj_dns_resolver **resolver)
{
    (void)endpt;
    (void)resolver;
    assert(!"Resolver is disabled");
    return PJ_EINVALIDOP;
}
#endif
