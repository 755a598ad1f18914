/*
 * pjfail.h: the interface of the C core for Python. cffi reads this file as it is.
 *
 * Python threads call these functions with the GIL released; none of them calls back into Python. Times are
 * CLOCK_MONOTONIC seconds (Python's time.monotonic()), durations are seconds.
 *
 * A C program may compile the core into itself and call the same functions from its own threads: first
 * pf_set_retry_policy(), then pf_host_open(), pf_host_check() and pf_attach(), then pf_publish() (examples/embed.c).
 */
#pragma once

/* Results of pf_host_*() and pf_attach(). */
enum {
    PF_OK = 0,
    PF_NO_OBJECT,   /* the object is not loaded into this process */
    PF_NO_SYMBOL,   /* it lacks a function that is needed; pf_problem() names it */
    PF_NO_ENDPOINT, /* pjsua has no endpoint, or has not been initialised */
    PF_BAD_LAYOUT,  /* a structure lies otherwise than in that version; pf_problem() says which */
    PF_ALREADY_ATTACHED,
    PF_NO_RESOLVER, /* no such DNS resolver of pjsip's, or none any more */
    PF_NO_ACCOUNT,  /* pjsua has no account with this id */
    PF_BAD_URI,     /* pjsip cannot parse pf_problem() */
    PF_BAD_HEADER,  /* the same, of a header, "name: value" */
    PF_PJSIP_FAILED /* a pjsip function failed; pf_status() is its status, pf_problem() its name */
};

enum { PF_ANY = 0, PF_UDP = 1, PF_TCP = 2, PF_TLS = 3 };

enum { PF_MAX_HOST = 256, PF_MAX_ENTRIES = 256, PF_MAX_URI = 256, PF_MAX_PROXIES = 8 };

/* What was seen of a server; the order is that of pjfail.model.OutcomeKind. */
enum { PF_ANSWERED = 0, PF_SILENT, PF_REFUSED, PF_DISCONNECTED, PF_UNAVAILABLE, PF_CERTIFICATE, PF_SERVER_ERROR };

typedef struct pf_address {
    unsigned char ip[16];    /* network order; the first four octets for IPv4 */
    unsigned char family;    /* 4 or 6 */
    unsigned char transport; /* PF_UDP, PF_TCP or PF_TLS */
    unsigned short port;
    unsigned int scope; /* of a link-local IPv6 address, else 0 */
} pf_address;

typedef struct pf_target {
    char host[256];          /* in lower case, terminated by a zero */
    unsigned short port;     /* 0: none given */
    unsigned char transport; /* PF_ANY: none given */
    unsigned char secure;
    unsigned char ipv6; /* IPv6 addresses only */
} pf_target;

/* One server in a plan. Entries come in order of tier; those of one tier and group (one SRV record) are adjacent. */
typedef struct pf_entry {
    pf_address server;
    unsigned short tier;
    unsigned short group;
    unsigned short weight;      /* of the group, RFC 2782 */
    unsigned short last_resort; /* neither it nor a server behind it is usable; suspect ones go before it */
} pf_entry;

/* pjsip's query "which server?", for Python to answer. */
typedef struct pf_query {
    struct pf_query *next;
    unsigned id; /* for pf_answer(), if one request asks for a plan of its own; 0: the query is about the target */
    pf_target target;
    int refresh;     /* no request waits: the plan will soon be too old */
    double until;    /* the requests that wait have been answered otherwise by then; 0: none waits */
    char method[16]; /* "" if unknown, as are the next three */
    char from_uri[256];
    char call_id[128];
    char to_tag[64];
} pf_query;

typedef struct pf_outcome {
    pf_address server;
    int seen;
    int code;        /* status code of the response, else 0 */
    int retry_after; /* seconds; -1: none */
    int after_provisional;
    int status;           /* pj_status_t of a connection's end */
    unsigned certificate; /* PJ_SSL_CERT_E* bits: what is wrong with it */
    unsigned sequence;    /* the number of this outcome among the server's failures */
    unsigned answers;     /* the server's good answers since its previous outcome, up to this one */
    double at;
    double began; /* when a silence began, with the sending of the request; else the same as at */
    double rtt;   /* smoothed, seconds; negative: unknown */
    char method[16];
} pf_outcome;

typedef struct pf_stats {
    pf_address server;
    double last_answer; /* negative: never */
    double rtt;         /* smoothed, seconds; negative: unknown */
    double rttvar;
    double answered_options, answered_other; /* when it last did, other than with 408; negative: never */
    unsigned answers, silences, refusals, unavailable;
    int suspect; /* the core itself has put it last */
} pf_stats;

/* The most servers that one request is tried at. */
enum { PF_MAX_ATTEMPTS = 8 };

/* So many clusters may be named whose servers take over each other's dialogs. */
enum { PF_MAX_CLUSTERS = 16 };

/* When a request under way fails over to the plan's next server; in force from the next pf_attach() on. */
typedef struct pf_retry_policy {
    int enabled; /* 0: never, whatever the other fields say */
    struct {
        char method[16];
        double seconds; /* without any response */
    } timeouts[16];     /* a method that is not named never fails over because of a timeout */
    int timeout_count;
    int codes[16]; /* final responses for which it goes on; 3 to 6: all of 300 to 399, ... */
    int code_count;
    double connection_attempt_delay; /* seconds between connection attempts side by side (RFC 8305); negative: none */
    double hedge_budget;             /* the share of requests, 0 to 1, that may fail over before their timeout */
    int port_check;                  /* 1: test whether a UDP server's port is closed */
    int attempts; /* the most servers that one request is tried at, 1 to PF_MAX_ATTEMPTS; 0: PF_MAX_ATTEMPTS */
    int decides;  /* whether Python is asked about other final responses (pf_ruling) */
    char clusters[PF_MAX_CLUSTERS][PF_MAX_HOST]; /* names in lower case: their servers take over dialogs */
    int cluster_count;
} pf_retry_policy;

/* Why a request failed over; the order is that of pjfail.events.Reason. */
enum { PF_REASON_SILENT = 0, PF_REASON_SLOW, PF_REASON_CODE, PF_REASON_LOST, PF_REASON_RACE, PF_REASON_REFUSED };

/* A request failed over to another server. */
typedef struct pf_failover {
    struct pf_failover *next;
    pf_address left, taken;
    int why;      /* PF_REASON_ */
    int code;     /* of the response, with PF_REASON_CODE; else 0 */
    double after; /* seconds since the request was first sent, or since pjsip asked for a server */
    char method[16];
    char call_id[128];
} pf_failover;

/* A final response that is held until pf_rule(), for half a second at the most. */
typedef struct pf_ruling {
    struct pf_ruling *next;
    unsigned long long request; /* it and number are pf_rule()'s */
    unsigned number;
    pf_address server;        /* that sent the response */
    pf_address remaining[32]; /* in the order in which they would be tried */
    int remaining_count;
    double rtt; /* seconds, from when the request was sent there first */
    int code;
    int head;    /* octets: the reason and each header, each with its zero */
    int body;    /* octets that follow */
    int message; /* octets of the request, as it was sent, that follow */
    char text[];
} pf_ruling;

typedef struct pf_counters {
    unsigned long long resolved;    /* times pjsip asked for a server */
    unsigned long long numeric;     /* answered at once: the host was an address */
    unsigned long long from_plan;   /* answered at once from a plan */
    unsigned long long questions;   /* had to wait for Python */
    unsigned long long from_stale;  /* of these, answered from a plan that was too old */
    unsigned long long from_system; /* of these, answered by the system's resolver */
    unsigned long long failed;      /* of these, answered with an error */
    unsigned long long dropped;     /* events that Python did not fetch in time: see event_queue.h */
    unsigned long long retried;     /* times a request failed over: its timeout, a lost connection, a code */
    unsigned long long hedged;     /* not in retried: times it did so before its timeout, by the server's round trips */
    unsigned long long suppressed; /* final responses that the application did not see */
    unsigned long long raced;      /* queries for which connections were raced */
    unsigned long long unwatched;  /* requests sent while too many were under way to be watched */
    unsigned long long forgotten;  /* dialogs dropped to make room for newer ones */
    unsigned long long plans, servers, waiting, outstanding, dialogs; /* now */
} pf_counters;

enum { PF_ROUND_TRIP_BOUNDS = 13 };

/*
 * The round trips of a transport: counts[i] were longer than bounds[i - 1] and not longer than bounds[i]; the last
 * count has those longer than all bounds.
 */
typedef struct pf_round_trips {
    double bounds[PF_ROUND_TRIP_BOUNDS];
    unsigned long long counts[PF_ROUND_TRIP_BOUNDS + 1];
    double seconds; /* the sum of all */
} pf_round_trips;

/* One record of an answer of pjsip's DNS resolver. */
typedef struct pf_record {
    char name[256];
    char target[256]; /* SRV, CNAME */
    unsigned ttl;
    unsigned short type, priority, weight, port;
    unsigned char ip[16]; /* A: the first four octets, network order; AAAA */
} pf_record;

typedef struct pf_dns_answer {
    struct pf_dns_answer *next;
    unsigned id;
    int status; /* pj_status_t */
    int exists; /* 0: NXDOMAIN */
    int count;
    pf_record records[];
} pf_dns_answer;

/* The settings of a pjsua account. */
typedef struct pf_account {
    char aor[PF_MAX_URI]; /* user@host[:port], as in From */
    char
        next_hop_uri[PF_MAX_URI]; /* its first proxy (those of all accounts come first), else its registrar; "": none */
    pf_target next_hop;
    int secure;       /* a sips URI or transport=tls in its own URI, its registrar's or a proxy's */
    int registers;    /* it has a registrar */
    int registered;   /* by pjsua's own state */
    int transport_id; /* -1: none given */
    int affinity;     /* PF_AFFINITY_ */
    int proxies;
    char proxy[PF_MAX_PROXIES][PF_MAX_URI];
} pf_account;

enum { PF_AFFINITY_NONE = 0, PF_AFFINITY_DISABLED, PF_AFFINITY_INHERITED, PF_AFFINITY_ENABLED };

/* The server that an account's requests go to. In the addresses, family 0 stands for none. */
typedef struct pf_pin {
    int account;
    char aor[PF_MAX_URI];
    pf_target next_hop;
    pf_address server;    /* gets all requests to next_hop; watched also while idle */
    pf_address registrar; /* gets the REGISTERs instead, if not none */
    int idle;             /* the plan decides, except for requests of dialogs */
    int followed;         /* its registrations are reported to the worker */
    double keepalive;     /* seconds without a sign of the peer after which its TCP connection ends; 0: the system's */
} pf_pin;

/*
 * A followed account's REGISTER: it was sent, or answered, or could not be sent. Also one of an account that is not
 * followed, where pf_find_accounts() wants those; account is negative then, and the two fields below are filled in.
 */
typedef struct pf_registration {
    struct pf_registration *next;
    int account;
    char aor[PF_MAX_URI];
    pf_target next_hop;      /* of a request; host "": this is a response */
    unsigned long long call; /* a hash of the Call-ID, by which a response finds its request */
    pf_address server;       /* family 0: it was not sent, or this answers PF_ASK_AFTER */
    pf_address answered;     /* that answered; another server where the REGISTER was hedged; family 0: none */
    int code;                /* 0: no answer yet */
    int status;              /* why it was not sent; PJ_ENOTFOUND: the account no longer exists */
    int retry_after;         /* seconds; -1: none */
    int removed;             /* it removes the binding */
    int registered;          /* in an answer to PF_ASK_AFTER: whether the account is registered, by pjsua's own state */
    int closed;              /* no REGISTER: the connection that answered its last one has ended */
} pf_registration;

enum { PF_MAX_CALL_ID = 128 };

/* A call of a followed account: as PF_REVIEW_CALLS has found it, or refreshed. */
typedef struct pf_call {
    struct pf_call *next;
    int account;
    int id; /* pjsua's */
    char call_id[PF_MAX_CALL_ID];
    pf_address server; /* of its dialog */
    int ended;         /* its connection has ended */
    int refreshed;     /* pf_refresh_call() has had its answer */
} pf_call;

/* The settings of an account, as PF_READ has found them. */
typedef struct pf_found_account {
    struct pf_found_account *next;
    int id;
    int found; /* 0: pjsua has no such account, or its settings cannot be read */
    pf_account account;
} pf_found_account;

enum {
    PF_REGISTER = 1,
    PF_NATIVE_PIN,
    PF_NATIVE_UNPIN,
    PF_ASK_AFTER,
    PF_READ,
    PF_RESUBSCRIBE,
    PF_CHANGE_NETWORK,
    PF_REVIEW_CALLS
};

/* A REGISTER of a standby ended; or it could not be sent, or its connection ended. */
typedef struct pf_standby {
    struct pf_standby *next;
    int account;
    char aor[PF_MAX_URI];
    pf_address server;
    int code;        /* 0: there is no response */
    int status;      /* why not; PJ_ENOTFOUND: the account no longer exists */
    int retry_after; /* seconds; -1: none */
    int lost;        /* its connection has ended */
    int unknown;     /* the account has not sent a REGISTER of its own so far, of which to make a copy */
} pf_standby;

/* The jobs of pf_standby_job(). */
enum {
    PF_STANDBY_WATCH = 1, /* keep copies of the account's REGISTERs from now on; number: keepalive of connections, ms */
    PF_STANDBY_REGISTER,  /* register it at the server, or again there; number: its reg-id */
    PF_STANDBY_UPDATE,    /* the same, if its Contact has changed */
    PF_STANDBY_END,       /* remove its binding there */
    PF_STANDBY_LET_GO,    /* end it there, with nothing sent */
    PF_STANDBY_KEEP_ALIVE, /* keep a NAT's binding for it */
    PF_STANDBY_END_ALL,    /* remove all bindings of the account */
    PF_STANDBY_FORGET      /* the same, and keep no more copies */
};

/* How a request of pf_request() ended. */
typedef struct pf_response {
    struct pf_response *next;
    unsigned id;
    int status; /* 0: answered, else the pj_status_t of its failure */
    double at;
    pf_address server; /* the server that answered */
    int code;
    int head; /* octets of reason and headers ("name: value"), each with its zero */
    int body; /* octets of the body, which follow */
    char message[];
} pf_response;

/* The loaded pjsip ("host"), as pf_host_check() has found it. */
typedef struct pf_host_facts {
    char version[32];    /* its version */
    char layout[64];     /* its row in the table of layouts; "": not found so far */
    int addresses;       /* PJSIP_MAX_RESOLVED_ADDRESSES */
    int packet;          /* PJSIP_MAX_PKT_LEN, to within some octets */
    int keys;            /* PJSIP_MAX_TRANSPORTS: the most connections and sockets at once; 0: not found out */
    int proxies;         /* PJSUA_ACC_MAX_PROXIES; 0: the layout of pjsua_acc_config was not found out */
    int native_affinity; /* it has its own server affinity */
    int state_callback;  /* the callback that pjsua found in the transport state callback's slot can be read */
    int own_lookups;     /* pjsua's own lookups of a domain can be stopped */
} pf_host_facts;

/* loader.c: objects, by the loader's own paths; NULL is the main program, which the loader calls "" */
int pf_loaded_objects(char *paths, int size);          /* each path with its zero; returns the octets that all need */
const char *pf_object(const char *path);               /* the loader's path of it; NULL: not loaded */
const char *pf_object_of(const void *address);         /* the object that contains the address; NULL: none */
void *pf_symbol(const char *object, const char *name); /* in the object or its dependencies */
const void *pf_pjsip_data(const char *object);         /* an address within the data that the object's pjsip works on */

/* layout.c */
const char *pf_layout_of(const char *version); /* the name of the version's row; NULL: unknown version */
const char *pf_known_layout(int index);        /* the name of a row of the table; NULL: no more rows */

/* host.c */
const char *pf_built_for(void);       /* pjproject's version at compile time */
int pf_host_open(const char *object); /* binds the pjsip of the object; pf_host_version() is valid afterwards */
const char *pf_host_version(void);
int pf_host_check(void); /* checks the endpoint and the layout; installs nothing */
void pf_read_host_facts(pf_host_facts *facts);
const char *pf_problem(void);
int pf_status(void);
void pf_strerror(int status, char *text, int size);

/* attach.c */
/* deadline: seconds that a query may wait; *attachment: its number, from 1 on */
int pf_attach(double deadline, int *attachment);
int pf_attached(void);          /* the number of the attachment in force; 0: none */
void pf_detach(int attachment); /* any thread; does nothing if that attachment has ended */
/* After the detach, while callbacks still reach Python: waits for the queries that pjsip answers now, 2 s; drops the rest. */
void pf_finish_at_exit(void);
int pf_is_forked_child(void); /* in a forked child of the process that attached */
void pf_read_counters(pf_counters *counters);

/* round_trips.c: of transport PF_UDP, PF_TCP or PF_TLS, since the core was loaded */
void pf_read_round_trips(int transport, pf_round_trips *trips);

/* failover.c */
void pf_set_retry_policy(const pf_retry_policy *policy);              /* before pf_attach() */
unsigned long long pf_unwatched(void);                                /* as in pf_counters, without a lock */
pf_ruling *pf_next_ruling(void);                                      /* NULL: none; free with pf_free() */
void pf_rule(unsigned long long request, unsigned number, int retry); /* 0: the response is passed on */

/* transport.c: bit 2*t is set where the endpoint has transport t over IPv4, bit 2*t+1 over IPv6 */
int pf_transports(unsigned *found);

/* accounts.c: pjsua's accounts. Any Python thread that holds no lock which a callback of pjsua takes. */
int pf_read_account(int id, pf_account *account);
int pf_account_is_valid(int id);
int pf_list_accounts(int *ids, int size); /* the ids of the accounts; returns how many were written */
int pf_set_proxies(int id, const char *const *proxies, int count); /* by pjsua_acc_modify() */
int pf_has_native_affinity(void);
int pf_native_pin(int id, const pf_address *server); /* family 0: unpins */

/* affinity.c */
int pf_set_pin(const pf_pin *pin); /* replaces that of this AOR and account; returns 0: detached, or no memory */
void pf_drop_pin(const char *aor, int account);
void pf_find_accounts(int find); /* before pf_attach(); 1: the REGISTERs of other accounts are told, too */
/* Runs the job on pjsip's polling thread, soon. */
int pf_account_job(int job, int account, const char *aor, const pf_address *server);
int pf_refresh_call(int account, const char *aor, int call, const char *call_id); /* soon, too */
pf_call *pf_next_call(void);                                                      /* NULL: none; free with pf_free() */
pf_registration *pf_next_registration(void);                                      /* NULL: none; free with pf_free() */
pf_found_account *pf_next_found_account(void);                                    /* NULL: none; free with pf_free() */

/* subscriptions.c: whether PF_RESUBSCRIBE does anything with the loaded pjsip */
int pf_can_move_subscriptions(void);

/* standby.c */
int pf_standby_is_possible(void); /* the loaded pjsip's layout of credentials is known */
/* Runs the job on pjsip's polling thread, soon. Returns 0: detached, no memory, or too many keepalives wait. */
int pf_standby_job(int what, int account, const char *aor, const pf_address *server, unsigned number);
void pf_standby_end_all(void);     /* at a detach; waits 0.5 s at the most */
pf_standby *pf_next_standby(void); /* NULL: none; free with pf_free() */

/* poller.c: since when pjsip's polling thread has run, on CLOCK_MONOTONIC; now, while it does not. */
double pf_polled_since(void);

/*
 * machine.c: descriptors that can be read when something has changed, for the caller to read and to close; -1: there is
 * none, see errno. Any thread.
 */
int pf_watch_clock(void); /* the time of day was set, or the machine was suspended: a read then fails by ECANCELED */
int pf_watch_files(void);
int pf_watch_file(int watch, const char *path); /* a file, or what is in a folder; returns 0 where it is not there */

/* outgoing.c: sends a request; server NULL: the plan decides. PF_OK: its end comes by the queue, with this id. */
int pf_request(unsigned id, const pf_address *server, const char *method, const char *uri, const char *from,
               const char *to, const char *const *names, const char *const *values, int headers,
               const char *content_type, const char *body, int body_length);
void pf_cancel_request(unsigned id); /* ends it now; its end comes by the queue, unless it has come */
pf_response *pf_next_response(void); /* NULL: none; free with pf_free() */

/* dns.c: pjsip's DNS resolver; without addresses the one that the application configured */
int pf_dns_open(const char *const *addresses, const unsigned short *ports, int count, int *handle);
int pf_dns_ask(int handle, const char *name, int type, unsigned id); /* PF_OK: the answer comes by the queue */

/* event_queue.c: for the worker, which calls pf_next_query() first, because that makes the descriptor unreadable */
int pf_event_fd(void);                                /* readable if there is something to fetch */
pf_query *pf_next_query(void);                        /* NULL: none; free with pf_free() */
pf_dns_answer *pf_next_dns_answer(void);              /* NULL: none; free with pf_free() */
pf_failover *pf_next_failover(void);                  /* NULL: none; free with pf_free() */
void pf_free(void *fetched);                          /* frees what a pf_next_*() has returned */
int pf_next_outcomes(pf_outcome *outcomes, int size); /* returns how many were written */

/* queries.c, plans.c, servers.c: from the worker */
/* The plan are the first drawn entries; the servers of the others are only watched. */
int pf_publish(const pf_target *target, const pf_entry *entries, int count, int drawn, double refresh_at,
               double fresh_until);
void pf_ask_each(int each); /* before pf_attach(); 1: each request asks for a plan of its own */
/* Answers the request that asked as id with its own plan. Returns 0 if it no longer waits, or there is no memory. */
int pf_answer(unsigned id, const pf_target *target, const pf_entry *entries, int count);
/*
 * Both answer the queries that wait for the target (id 0), or the request that asked as id: pf_fail() with an error, or
 * with an old plan if stale is set and there is one; pf_pass() by the system's resolver.
 */
void pf_fail(const pf_target *target, unsigned id, int stale);
void pf_pass(const pf_target *target, unsigned id);
void pf_forget(const pf_target *target); /* drops the plan */
/*
 * Plans answer for these hosts that are addresses, and for no others: those stay pjsip's own. A host has no transport, and port 0
 * where none is named. Returns 0 when there was no memory for all.
 */
int pf_answer_for(const pf_address *hosts, int count);
void pf_clear_suspect(const pf_address *server, unsigned sequence); /* Python has judged its outcomes up to sequence */
/* Puts the server last until it answers, or Python has judged a later outcome. */
void pf_suspect(const pf_address *server);
int pf_read_stats(const pf_address *server, pf_stats *stats); /* returns 0 if the server is in no plan */
double pf_used_at(const pf_target *target); /* when a request last used the plan; negative: there is no plan */
int pf_draw(const pf_target *target, unsigned long long seed, pf_address *drawn, int size);
