/* --- what the observer takes of each message --------------------------------------------------------------------- */

/* pjsip calls modules by what their structures hold: here the observer's two functions get a clock around them. */
static struct {
    pjsip_module *module;
    pj_status_t (*on_tx_request)(pjsip_tx_data *);
    pj_bool_t (*on_rx_response)(pjsip_rx_data *);
    atomic_int sent, received;
    double *sending, *receiving;
    int room;
} observer;

static void keep(atomic_int *count, double *seconds, double took)
{
    int index = atomic_fetch_add(count, 1);

    if (index < observer.room)
        seconds[index] = took;
}

static pj_status_t timed_on_tx_request(pjsip_tx_data *tdata)
{
    double began = now();
    pj_status_t status = observer.on_tx_request(tdata);

    keep(&observer.sent, observer.sending, now() - began);
    return status;
}

static pj_bool_t timed_on_rx_response(pjsip_rx_data *rdata)
{
    double began = now();
    pj_bool_t taken = observer.on_rx_response(rdata);

    keep(&observer.received, observer.receiving, now() - began);
    return taken;
}

/* pjsip has no way to ask for a module by its name; one of our own leads to all that are registered. */
static pjsip_module *find_module(const char *name)
{
    static pjsip_module own = { NULL, NULL, { "mod-bench", 9 }, -1, PJSIP_MOD_PRIORITY_APPLICATION };
    pjsip_endpoint *endpt = host.pjsua_get_pjsip_endpt();
    pjsip_module *module, *found = NULL;

    if (host.pjsip_endpt_register_module(endpt, &own) != PJ_SUCCESS)
        return NULL;
    for (module = own.next; module != &own; module = module->next)
        if (module->name.slen == (pj_ssize_t)strlen(name) && !memcmp(module->name.ptr, name, strlen(name)))
            found = module;
    host.pjsip_endpt_unregister_module(endpt, &own);
    return found;
}

/* From now on keeps the seconds that each message takes, as long as there is room; 0: pjfail is not attached. */
static int bench_time_observer(double *sending, double *receiving, int room)
{
    pjsip_module *module = find_module("mod-pjfail");

    if (!module)
        return 0;
    observer.module = module;
    observer.sending = sending;
    observer.receiving = receiving;
    observer.room = room;
    atomic_store(&observer.sent, 0);
    atomic_store(&observer.received, 0);
    observer.on_tx_request = module->on_tx_request;
    observer.on_rx_response = module->on_rx_response;
    module->on_tx_request = &timed_on_tx_request;
    module->on_rx_response = &timed_on_rx_response;
    return 1;
}

/* Ends that; how many messages both ways were kept. */
static int bench_observer_timed(void)
{
    int sent = atomic_load(&observer.sent), received = atomic_load(&observer.received);

    observer.module->on_tx_request = observer.on_tx_request;
    observer.module->on_rx_response = observer.on_rx_response;
    usleep(100000); /* for who is in there still */
    return sent < received ? sent : received;
}

/* What one look at the clock takes: a timing has that much too much. */
static double bench_clock(int count)
{
    double began = now();
    int i;

    for (i = 0; i < count; i++)
        now();
    return (now() - began) / count;
}
