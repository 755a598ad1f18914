/*
 * variants.c: functions that come before pjsip's own of the same name, and make it another pjsip.
 */
#include <assert.h>
#include <pjsip.h>

#ifdef UNKNOWN_VERSION
const char *pj_get_version(void) { return "2.99"; }
#endif

#if defined LATE_DIGESTS || defined WITHOUT_DIGESTS /* as one over an OpenSSL before 1.1, or over one without MD5 */
static int initialised;

#if PJ_VERSION_NUM < (2 << 24 | 15 << 16)
typedef int pjsip_auth_algorithm_type;
#endif

pj_status_t pj_ssl_cipher_get_availables(pj_ssl_cipher ciphers[], unsigned *count)
{
    (void)ciphers;
    *count = 0;
    initialised = 1;
    return PJ_SUCCESS;
}

pj_bool_t pjsip_auth_is_algorithm_supported(pjsip_auth_algorithm_type type)
{
    (void)type;
#ifdef LATE_DIGESTS
    return initialised;
#else
    return PJ_FALSE;
#endif
}
#endif

#ifdef WITHOUT_DNS /* as one built with PJSIP_HAS_RESOLVER 0, and with assertions */
pj_status_t pjsip_endpt_create_resolver(pjsip_endpoint *endpt, pj_dns_resolver **resolver)
{
    (void)endpt;
    (void)resolver;
    assert(!"Resolver is disabled");
    return PJ_EINVALIDOP;
}
#endif

#ifdef FEWER_KEYS /* as one built with PJSIP_MAX_TRANSPORTS 24 */
pj_status_t pj_ioqueue_create(pj_pool_t *pool, pj_size_t keys, pj_ioqueue_t **ioqueue)
{
    return pj_ioqueue_create2(pool, keys == PJSIP_MAX_TRANSPORTS ? 24 : keys, NULL, ioqueue);
}
#endif

#ifdef OTHER_CALLS /* as one whose pjsua_config lies otherwise */
#include <pjsua-lib/pjsua.h>

unsigned pjsua_call_get_max_count(void) { return 77777; }
#endif
