/*
 * accounts.c: reads an account's settings from pjsua, and changes them through pjsua's own functions.
 *
 * Called by Python threads, and by affinity.c on pjsip's polling thread. pjsua takes its own lock; none of ours is
 * held.
 */
#include "accounts.h"

#include "address.h"
#include "layout.h"
#include "text.h"

#include <ctype.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

/*
 * Locks pjsua's mutex, so that no account comes or goes until accounts_unlock(): pjsip aborts when it is asked of one
 * that has just been deleted. (Its functions take this lock too, but some only after they have looked whether there
 * is the account, and pjsua_acc_get_config() not at all.) Held without the GIL, while pjsua's functions for accounts
 * run, which hold it themselves for most of that time; no lock of ours, of a dialog or of a transaction is taken
 * inside by reading. Returns the mutex; NULL where pjsua hides it, which is as good as without us. Any thread that
 * pjsip knows, no lock held.
 */
static pj_mutex_t *accounts_lock(void)
{
    pj_mutex_t *mutex = pjsua_mutex();

    if (mutex)
        host.pj_mutex_lock(mutex);
    return mutex;
}

static void accounts_unlock(pj_mutex_t *mutex)
{
    if (mutex)
        host.pj_mutex_unlock(mutex);
}

/* Reads the account's configuration; its strings are in pool. Accounts locked. */
static int accounts_read_config_locked(int id, pj_pool_t *pool, account_config *config)
{
    pj_status_t status;

    if (!layout.proxies)
        return host_problem(PF_BAD_LAYOUT, 0, "pjsua_acc_config");
    if (!host.pjsua_acc_is_valid(id))
        return host_problem(PF_NO_ACCOUNT, 0, "%d", id);
    status = host.pjsua_acc_get_config(id, pool, &config->config);
    return status == PJ_SUCCESS ? PF_OK : host_problem(PF_PJSIP_FAILED, status, "pjsua_acc_get_config()");
}

int accounts_write_aor(const pjsip_uri *uri, char *aor, size_t size)
{
    const pjsip_sip_uri *sip = uri ? pjsip_uri_get_uri(uri) : NULL;
    const pj_str_t *scheme = sip ? pjsip_uri_get_scheme(sip) : NULL;
    int length, i;

    if (!scheme || scheme->slen < 3 || scheme->slen > 4 || strncasecmp(scheme->ptr, "sips", (size_t)scheme->slen))
        return 0;
    length = snprintf(aor, size, "%.*s@", (int)sip->user.slen, sip->user.slen ? sip->user.ptr : "");
    for (i = 0; i < sip->host.slen && length + 1 < (int)size; i++)
        aor[length++] = (char)tolower((unsigned char)sip->host.ptr[i]);
    if (length + 8 > (int)size)
        return 0;
    aor[length] = '\0';
    if (sip->port)
        snprintf(aor + length, size - (size_t)length, ":%d", sip->port);
    return 1;
}

/*
 * Parses text as a URI. Copies it to copy, which pjsip's parser writes into and the parsed URI points at. Returns
 * NULL for what is not a valid URI, or is too long for copy.
 */
static pjsip_uri *accounts_parse(pj_pool_t *pool, const pj_str_t *text, char *copy, size_t size)
{
    if (text->slen >= (pj_ssize_t)size)
        return NULL;
    copy_text(copy, size, text);
    return host.pjsip_parse_uri(pool, copy, (pj_size_t)text->slen, 0);
}

/* Fills in the target that a URI sends to. Returns 0 when it is not a SIP URI. */
static int accounts_target_of(pj_pool_t *pool, const pj_str_t *text, pf_target *target)
{
    char copy[2 * PF_MAX_URI];
    pjsip_uri *uri = accounts_parse(pool, text, copy, sizeof copy);
    pjsip_host_info where;

    return uri && host.pjsip_get_dest_info(pjsip_uri_get_uri(uri), NULL, pool, &where) == PJ_SUCCESS &&
           target_of_host_info(&where, target);
}

/*
 * Returns whether the first Route, which account has as its next hop, is the one by which pjsip's own affinity (after 2.17) pins an
 * account over UDP: <sip:ADDRESS;lr;hide>. One of the account's own proxies is not, nor is there one without that affinity. A proxy of
 * all accounts that is written so is taken for a pin.
 */
static int accounts_is_native_pin(pj_pool_t *pool, const account_config *found, const pf_account *account)
{
    const char *name = account->next_hop.host;
    const unsigned proxies = config_proxy_count(found);
    pf_target proxy;
    unsigned i;

    if (!pf_has_native_affinity() || !config_affinity(found) || !strstr(account->next_hop_uri, ";lr;hide") ||
        (!strchr(name, ':') && strspn(name, "0123456789.") != strlen(name)))
        return 0;
    for (i = 0; i < proxies; i++)
        if (accounts_target_of(pool, config_proxy(found, i), &proxy) && proxy.port == account->next_hop.port &&
            !strcmp(proxy.host, name))
            return 0;
    return 1;
}

/*
 * Fills in the account's next hop by the Route that pjsua gives its requests: those of all accounts
 * (pjsua_config.outbound_proxy), which come before its own, can be read nowhere. Returns 0 when it has none. Accounts
 * locked.
 */
static int accounts_fill_first_route(int id, pj_pool_t *pool, const account_config *config, pf_account *account)
{
    static const pj_str_t nobody = { "sip:127.0.0.1", 13 }; /* an address, so that pjsua looks no name up */
    const int size = sizeof account->next_hop_uri - 1;
    pjsip_tx_data *tdata;
    pjsip_route_hdr *route;
    pjsip_host_info where;
    int found = 0, first = 1;

    if (host.pjsua_acc_create_request(id, host.pjsip_get_options_method(), &nobody, &tdata) != PJ_SUCCESS)
        return 0;
    route = host.pjsip_msg_find_hdr(tdata_msg(tdata), PJSIP_H_ROUTE, NULL);
    for (; route; route = host.pjsip_msg_find_hdr(tdata_msg(tdata), PJSIP_H_ROUTE, route->next)) {
        int length = pjsip_uri_print(PJSIP_URI_IN_ROUTING_HDR, route->name_addr.uri, account->next_hop_uri, size);

        account->next_hop_uri[length > 0 ? length : 0] = '\0';
        found = length > 0 && host.pjsip_get_dest_info(route->name_addr.uri, NULL, pool, &where) == PJ_SUCCESS &&
                target_of_host_info(&where, &account->next_hop);
        if (!found || !first || !accounts_is_native_pin(pool, config, account))
            break;
        found = first = 0;
    }
    if (!found)
        account->next_hop_uri[0] = '\0';
    host.pjsip_tx_data_dec_ref(tdata);
    return found;
}

/* Fills in account from its configuration, found. Returns a PF_ result. Accounts locked. */
static int accounts_fill_locked(int id, pj_pool_t *pool, const account_config *found, pf_account *account)
{
    const pjsua_acc_config *config = &found->config;
    unsigned proxies = config_proxy_count(found);
    const pj_str_t *next_hop = proxies ? config_proxy(found, 0) : &config->reg_uri;
    char text[2 * PF_MAX_URI];
    account_info now;
    pf_target target;
    pjsip_uri *uri = accounts_parse(pool, &config->id, text, sizeof text);
    unsigned i;

    if (!uri || !accounts_write_aor(uri, account->aor, sizeof account->aor))
        return host_problem(PF_BAD_URI, 0, "%.*s", (int)config->id.slen, config->id.ptr);
    account->secure = (accounts_target_of(pool, &config->id, &target) && target.secure) ||
                      (config->reg_uri.slen && accounts_target_of(pool, &config->reg_uri, &target) && target.secure);
    if (accounts_fill_first_route(id, pool, found, account)) {
        account->secure |= account->next_hop.secure;
    } else if (next_hop->slen) {
        copy_text(account->next_hop_uri, sizeof account->next_hop_uri, next_hop);
        if (!accounts_target_of(pool, next_hop, &account->next_hop))
            return host_problem(PF_BAD_URI, 0, "%s", account->next_hop_uri);
    }
    if (proxies > PF_MAX_PROXIES)
        return host_problem(PF_BAD_LAYOUT, 0, "pjsua_acc_config.proxy (PJSUA_ACC_MAX_PROXIES)");
    for (i = 0; i < proxies; i++) {
        const pj_str_t *proxy = config_proxy(found, i);

        if (proxy->slen >= (pj_ssize_t)sizeof account->proxy[i])
            return host_problem(PF_BAD_URI, 0, "%.*s", (int)proxy->slen, proxy->ptr);
        copy_text(account->proxy[i], sizeof account->proxy[i], proxy);
        account->secure |= accounts_target_of(pool, proxy, &target) && target.secure;
    }
    account->proxies = (int)proxies;
    account->transport_id = config_transport_id(found);
    account->registers = config->reg_uri.slen != 0;
    if (pf_has_native_affinity()) {
        int affinity = config_affinity(found);
        account->affinity = affinity > 0 ? PF_AFFINITY_ENABLED
                            : affinity   ? PF_AFFINITY_INHERITED
                                         : PF_AFFINITY_DISABLED;
    }
    account->registered = host.pjsua_acc_get_info(id, &now.info) == PJ_SUCCESS && now.info.has_registration &&
                          (int)now.info.status / 100 == 2 && now.info.expires &&
                          now.info.expires != PJSIP_EXPIRES_NOT_SPECIFIED;
    return PF_OK;
}

int accounts_read(int id, pf_account *account)
{
    pj_pool_t *pool = host.pjsip_endpt_create_pool(host_endpoint(), "pjfail", 4000, 4000);
    account_config config;
    pj_mutex_t *locked;
    int result;

    memset(account, 0, sizeof *account);
    if (!pool)
        return host_problem(PF_PJSIP_FAILED, PJ_ENOMEM, "pjsip_endpt_create_pool()");
    locked = accounts_lock();
    result = accounts_read_config_locked(id, pool, &config);
    if (result == PF_OK)
        result = accounts_fill_locked(id, pool, &config, account);
    accounts_unlock(locked);
    host.pjsip_endpt_release_pool(host_endpoint(), pool);
    return result;
}

/* Returns whether what was read as credentials can be: few, each with a scheme and a user name. */
static int accounts_are_credentials(const account_config *config, unsigned count)
{
    enum { MAX_TEXT = 4096 };
    const char *each = (const char *)config_credentials(config);
    unsigned i;

    for (i = 0; i < count && i < layout.proxies; i++, each += layout.row.config_credential) {
        const pjsip_cred_info *credential = (const pjsip_cred_info *)(const void *)each;

        if (credential->realm.slen < 0 || credential->realm.slen > MAX_TEXT || credential->scheme.slen < 0 ||
            credential->scheme.slen > MAX_TEXT || credential->username.slen < 0 || credential->username.slen > MAX_TEXT)
            return 0;
    }
    return count <= layout.proxies;
}

/* Accounts locked. */
static pj_status_t accounts_lend_locked(int id, const char *aor, pj_pool_t *pool, pjsip_regc *regc)
{
    static const pj_str_t nobody = { "sip:127.0.0.1", 13 }; /* an address, so that pjsua looks no name up */
    char text[2 * PF_MAX_URI], own[PF_MAX_URI];
    account_config config;
    pjsip_tx_data *tdata;
    pj_status_t status;
    pjsip_uri *uri;
    unsigned count;

    if (accounts_read_config_locked(id, pool, &config) != PF_OK)
        return PJ_ENOTFOUND;
    uri = accounts_parse(pool, &config.config.id, text, sizeof text);
    if (!uri || !accounts_write_aor(uri, own, sizeof own) || strcmp(own, aor))
        return PJ_ENOTFOUND;
    count = config_cred_count(&config);
    if (!accounts_are_credentials(&config, count))
        return PJ_EINVAL;
    status = count ? host.pjsip_regc_set_credentials(regc, (int)count, config_credentials(&config)) : PJ_SUCCESS;
    if (status == PJ_SUCCESS)
        status = host.pjsip_regc_set_prefs(regc, config_auth_pref(&config));
    if (status == PJ_SUCCESS)
        status = host.pjsua_acc_create_request(id, host.pjsip_get_options_method(), &nobody, &tdata);
    if (status != PJ_SUCCESS)
        return status;
    status = host.pjsip_regc_set_transport(regc, tdata_selector(tdata));
    host.pjsip_tx_data_dec_ref(tdata);
    return status;
}

pj_status_t accounts_lend_credentials(int id, const char *aor, pjsip_regc *regc)
{
    pj_pool_t *pool = host.pjsip_endpt_create_pool(host_endpoint(), "pjfail", 4000, 4000);
    pj_mutex_t *locked;
    pj_status_t status;

    if (!pool)
        return PJ_ENOMEM;
    locked = accounts_lock();
    status = accounts_lend_locked(id, aor, pool, regc);
    accounts_unlock(locked);
    host.pjsip_endpt_release_pool(host_endpoint(), pool);
    return status;
}

/* --- the Contact ------------------------------------------------------------------------------------------------- */

/* Returns whether the account has this AOR. Accounts locked. */
static int accounts_has_aor_locked(int id, const char *aor, pj_pool_t *pool)
{
    char text[2 * PF_MAX_URI], own[PF_MAX_URI];
    account_info now;
    pjsip_uri *uri;

    if (!host.pjsua_acc_is_valid(id) || host.pjsua_acc_get_info(id, &now.info) != PJ_SUCCESS)
        return 0;
    uri = accounts_parse(pool, &now.info.acc_uri, text, sizeof text);
    return uri && accounts_write_aor(uri, own, sizeof own) && !strcmp(own, aor);
}

/* Returns the id of the account with this AOR; PJSUA_INVALID_ID: there is none. Accounts locked. */
static int accounts_find_locked(const char *aor, pj_pool_t *pool)
{
    enum { MAX_ID = 1 << 16 };
    static atomic_int last = PJSUA_INVALID_ID; /* found: most accounts register in the order of their ids */
    unsigned count = host.pjsua_acc_get_count();
    int id = atomic_load(&last) + 1;

    if (!accounts_has_aor_locked(id, aor, pool))
        for (id = 0; count && id < MAX_ID; id++) {
            if (accounts_has_aor_locked(id, aor, pool))
                break;
            count -= host.pjsua_acc_is_valid(id) != 0;
        }
    if (!count || id >= MAX_ID)
        return PJSUA_INVALID_ID;
    atomic_store(&last, id);
    return id;
}

int accounts_set_contact_rewrite(int id, const char *aor, int from, int to)
{
    pj_pool_t *pool = host.pjsip_endpt_create_pool(host_endpoint(), "pjfail", 4000, 4000);
    account_config config;
    pj_mutex_t *locked;
    int set = 0;

    if (!pool)
        return PJSUA_INVALID_ID;
    locked = accounts_lock();
    if (id == PJSUA_INVALID_ID)
        id = accounts_find_locked(aor, pool);
    if (id != PJSUA_INVALID_ID && accounts_has_aor_locked(id, aor, pool) &&
        accounts_read_config_locked(id, pool, &config) == PF_OK && config_contact_follows_connection(&config) &&
        config_contact_rewrite(&config) == from) {
        config_set_contact_rewrite(&config, to);
        set = host.pjsua_acc_modify(id, &config.config) == PJ_SUCCESS;
    }
    accounts_unlock(locked);
    host.pjsip_endpt_release_pool(host_endpoint(), pool);
    return set ? id : PJSUA_INVALID_ID;
}

/* --- from Python ------------------------------------------------------------------------------------------------- */

int pf_read_account(int id, pf_account *account)
{
    return host_enter() ? host_leave(accounts_read(id, account)) : PF_NO_ENDPOINT;
}

/*
 * Reads, changes and writes the account's configuration. Locks the accounts all the while: the id may be another's
 * the next moment, or the application may modify the account. pjsua itself sends under that lock, when it modifies.
 */
static int accounts_set_proxies(int id, const char *const *proxies, int count)
{
    pj_pool_t *pool = host.pjsip_endpt_create_pool(host_endpoint(), "pjfail", 4000, 4000);
    account_config config;
    pj_mutex_t *locked;
    int result, i;

    if (!pool)
        return host_problem(PF_PJSIP_FAILED, PJ_ENOMEM, "pjsip_endpt_create_pool()");
    locked = accounts_lock();
    result = accounts_read_config_locked(id, pool, &config);
    if (result == PF_OK) {
        pj_status_t status;

        for (i = 0; i < count; i++)
            config_set_proxy(&config, (unsigned)i, proxies[i]);
        config_set_proxy_count(&config, (unsigned)count);
        status = host.pjsua_acc_modify(id, &config.config);
        if (status != PJ_SUCCESS)
            result = host_problem(PF_PJSIP_FAILED, status, "pjsua_acc_modify()");
    }
    accounts_unlock(locked);
    host.pjsip_endpt_release_pool(host_endpoint(), pool);
    return result;
}

int pf_set_proxies(int id, const char *const *proxies, int count)
{
    if (count > PF_MAX_PROXIES || (layout.proxies && count > (int)layout.proxies))
        return host_problem(PF_PJSIP_FAILED, PJ_ETOOMANY, "the account's proxies (PJSUA_ACC_MAX_PROXIES)");
    return host_enter() ? host_leave(accounts_set_proxies(id, proxies, count)) : PF_NO_ENDPOINT;
}

int pf_list_accounts(int *ids, int size)
{
    enum { MAX_ID = 1 << 16 };
    unsigned count, found = 0;
    int id;

    if (!host_enter())
        return 0;
    count = host.pjsua_acc_get_count();
    for (id = 0; found < count && (int)found < size && id < MAX_ID; id++)
        if (host.pjsua_acc_is_valid(id))
            ids[found++] = id;
    return host_leave((int)found);
}

int pf_account_is_valid(int id) { return host_enter() && host_leave(host.pjsua_acc_is_valid(id)); }

/* --- pjsua's own lookups ----------------------------------------------------------------------------------------- */

/* Whether pjsua has a name server of ours, so to speak. Guarded by attach.c's lock. */
static int accounts_lookups_stopped;

/*
 * For the Contact of a TCP or TLS account pjsua looks its domain up with getaddrinfo, on the thread that happens to be there, under
 * pjsua's lock (40 s where the name server is silent), and connects to what it finds (pjsua_acc_get_uac_addr(), pjsua_acc.c, since
 * 2.1). With a name server set it leaves that, for its own lookups would be another's: so they are with us. Read nowhere else once
 * pjsua is initialised; no lock, for a SIP thread may hold pjsua's for as long as such a lookup takes.
 */
void accounts_stop_lookups(void)
{
    unsigned *count = pjsua_nameserver_count();

    if (count && !__atomic_load_n(count, __ATOMIC_RELAXED)) {
        __atomic_store_n(count, 1, __ATOMIC_RELAXED);
        accounts_lookups_stopped = 1;
    }
}

void accounts_resume_lookups(void)
{
    if (accounts_lookups_stopped)
        __atomic_store_n(pjsua_nameserver_count(), 0, __ATOMIC_RELAXED);
    accounts_lookups_stopped = 0;
}

/* --- a change of the network -------------------------------------------------------------------------------------- */

/*
 * With restart_listener, the default, pjsip 2.17 loses its TCP or TLS factory for good where the listener's port is taken:
 * pjsip_tcp_transport_restart() has unregistered the factory by then, and its retry only changes the address. So listeners are left
 * alone. The member is the first in every version; a later one has more of them.
 */
pj_status_t accounts_change_network(void)
{
    union {
        pjsua_ip_change_param param;
        char room[256];
    } change;

    host.pjsua_ip_change_param_default(&change.param);
    change.param.restart_listener = PJ_FALSE;
    return host.pjsua_handle_ip_change(&change.param);
}

/* --- pjsip's own affinity, after 2.17 ---------------------------------------------------------------------------- */

pj_status_t accounts_pin_natively(int id, const pf_address *server)
{
    pj_status_t status = PJ_EINVAL;
    pj_sockaddr address;
    pj_mutex_t *locked;

    if (!pf_has_native_affinity())
        return status;
    locked = accounts_lock();
    if (host.pjsua_acc_is_valid(id) && server->family) {
        address_to_sockaddr(server, &address);
        status = host.pjsua_acc_set_affinity_addr(id, &address);
    } else if (host.pjsua_acc_is_valid(id)) {
        status = host.pjsua_acc_refresh_transport(id);
    }
    accounts_unlock(locked);
    return status;
}
