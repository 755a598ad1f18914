/*
 * pjfail.h: what Python sees of the C core. cffi reads this file as it is.
 *
 * All of these functions are called from Python threads with the GIL released; none of them calls back into
 * Python. Times are CLOCK_MONOTONIC seconds (Python's time.monotonic()), durations are seconds.
 *
 * A C program may compile the core into itself and call the same functions from threads of its own: pf_set_retry_policy(), then
 * pf_host_open(), pf_host_check() and pf_attach(), then pf_publish() (examples/embed.c).
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
    PF_PJSIP_FAILED /* a pjsip function failed; pf_status() is its status, pf_problem() its name */
};

enum { PF_ANY = 0, PF_UDP = 1, PF_TCP = 2, PF_TLS = 3 };

enum { PF_MAX_HOST = 256, PF_MAX_ENTRIES = 256, PF_MAX_URI = 256, PF_MAX_PROXIES = 8 };

/* What was seen of a server; the order is that of pjfail.model.Seen. */
enum { PF_ANSWERED = 0, PF_SILENT, PF_REFUSED, PF_DISCONNECTED, PF_UNAVAILABLE, PF_CERTIFICATE, PF_SERVER_ERROR };

typedef struct pf_address {
    unsigned char ip[16];    /* network order; the first four octets for IPv4 */
    unsigned char family;    /* 4 or 6 */
    unsigned char transport; /* PF_UDP, PF_TCP or PF_TLS */
    unsigned short port;
    unsigned int scope; /* of a link-local IPv6 address, else 0 */
} pf_address;

typedef struct pf_target {
    char host[256];          /* in lower case, ends with a zero */
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
    unsigned short last_resort; /* Python has it down, and all behind it: whom the core itself suspects comes before */
} pf_entry;

/* "Which server?", asked of Python. */
typedef struct pf_query {
    struct pf_query *next;
    unsigned id; /* of one request's own query, for pf_answer(); 0: it is about the target */
    pf_target target;
    int refresh;     /* nobody waits: the plan is about to be too old */
    double until;    /* those who wait have been answered otherwise by then; 0: nobody waits */
    char method[16]; /* "" when unknown, as the next three */
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
    unsigned sequence;    /* of this server's bad outcomes */
    unsigned answers;     /* good ones since this server's outcome before, up to this one */
    double at;
    double began; /* when what was seen began: a silence with the sending of the request; else at */
    double rtt;   /* smoothed, seconds; negative: unknown */
    char method[16];
} pf_outcome;

typedef struct pf_stats {
    pf_address server;
    double last_answer; /* negative: never */
    double rtt;         /* smoothed, seconds; negative: unknown */
    double rtt_deviation;
    unsigned answers, silences, refusals, unavailable;
    int suspect; /* put last by the core itself */
} pf_stats;

/* A request is tried at so many servers at the most; pjsip itself sends no more often in the time that it gives one. */
enum { PF_MAX_ATTEMPTS = 8 };

/* When a request under way fails over to the plan's next server; in force from the next pf_attach() on. */
typedef struct pf_retry_policy {
    int enabled; /* 0: never, whatever the other fields say */
    struct {
        char method[16];
        double seconds; /* without any response */
    } timeouts[16];     /* a method that is not named never fails over because of a timeout */
    int timeout_count;
    int codes[16]; /* final responses that make a request fail over */
    int code_count;
    double connection_attempt_delay; /* seconds between connection attempts side by side (RFC 8305); negative: none */
    double hedge_budget;             /* the share of requests, 0 to 1, that may fail over before their timeout */
    int port_check;                  /* 1: test whether a UDP server's port is closed */
    int attempts; /* the most servers that one request is tried at, 1 to PF_MAX_ATTEMPTS; 0: PF_MAX_ATTEMPTS */
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

typedef struct pf_counters {
    unsigned long long resolved;    /* times pjsip asked */
    unsigned long long numeric;     /* answered inline: the host was an address */
    unsigned long long from_plan;   /* answered inline from a plan */
    unsigned long long questions;   /* had to wait */
    unsigned long long from_stale;  /* waited in vain, answered from a plan too old */
    unsigned long long from_system; /* waited in vain, answered by the system's resolver */
    unsigned long long failed;      /* ended with an error status */
    unsigned long long dropped;     /* outcomes, failovers, registrations, queries that Python did not fetch in time */
    unsigned long long retried;     /* times a request failed over: its timeout, a lost connection, a code */
    unsigned long long
        hedged; /* besides: times a request failed over before its timeout, by the server's round trips */
    unsigned long long suppressed; /* final responses that the application did not see */
    unsigned long long raced;      /* queries for which connections were raced */
    unsigned long long unwatched;  /* requests that were sent while too many were under way to be watched */
    unsigned long long forgotten;  /* dialogs that had to go for newer ones */
    unsigned long long plans, servers, waiting, outstanding, dialogs; /* now */
} pf_counters;

enum { PF_ROUND_TRIP_BOUNDS = 13 };

/* How many round trips of a transport took up to each bound (from the one before), and, the last, more than all bounds. */
typedef struct pf_round_trips {
    double bounds[PF_ROUND_TRIP_BOUNDS];
    unsigned long long counts[PF_ROUND_TRIP_BOUNDS + 1];
    double seconds; /* of all */
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

/* What an account of pjsua's is set to. */
typedef struct pf_account {
    char aor[PF_MAX_URI];          /* user@host[:port], as in From */
    char next_hop_uri[PF_MAX_URI]; /* its first proxy (that of all comes first), else its registrar; "": none */
    pf_target next_hop;
    int secure;       /* a sips URI or transport=tls in its own, its registrar's or a proxy's */
    int registers;    /* it has a registrar */
    int registered;   /* as pjsua believes */
    int transport_id; /* -1: none given */
    int affinity;     /* PF_AFFINITY_ */
    int proxies;
    char proxy[PF_MAX_PROXIES][PF_MAX_URI];
} pf_account;

enum { PF_AFFINITY_NONE = 0, PF_AFFINITY_DISABLED, PF_AFFINITY_INHERITED, PF_AFFINITY_ENABLED };

/* Which server an account's requests go to. Of the addresses, family 0 stands for none. */
typedef struct pf_pin {
    int account;
    char aor[PF_MAX_URI];
    pf_target next_hop;
    pf_address server;    /* all its requests to next_hop; watched also while idle */
    pf_address registrar; /* if any, its REGISTERs alone */
    int idle;             /* requests go as the plan has it, but for those of dialogs */
    int followed;         /* its registrations are told to the worker */
} pf_pin;

/* A followed account's REGISTER: that it was sent, what became of it, or that there was no sending it. */
typedef struct pf_registration {
    struct pf_registration *next;
    int account;
    char aor[PF_MAX_URI];
    pf_address server; /* family 0: it was not sent, or it is an answer to PF_ASK_AFTER */
    int code;          /* 0: no answer so far */
    int status;        /* why it was not sent; PJ_ENOTFOUND: there is no such account any more */
    int retry_after;   /* seconds; -1: none */
    int removed;       /* it takes the binding away */
    int registered;    /* to PF_ASK_AFTER: it is, as pjsua has it */
} pf_registration;

enum { PF_REGISTER = 1, PF_NATIVE_PIN, PF_NATIVE_UNPIN, PF_ASK_AFTER };

/* How a request of pf_request() ended. */
typedef struct pf_response {
    struct pf_response *next;
    unsigned id;
    int status; /* 0: answered, else the pj_status_t it failed for */
    double at;
    pf_address server; /* who answered */
    int code;
    int head; /* octets of reason and headers ("name: value"), each with its zero */
    int body; /* octets that follow */
    char message[];
} pf_response;

/* The host, as pf_host_check() has found it. */
typedef struct pf_host_facts {
    char version[32];    /* of its pjsip */
    char layout[64];     /* the row of the table of layouts that is its own; "": none found so far */
    int addresses;       /* PJSIP_MAX_RESOLVED_ADDRESSES */
    int packet;          /* PJSIP_MAX_PKT_LEN, some octets more or less */
    int keys;            /* PJSIP_MAX_TRANSPORTS: connections and sockets at once; 0: it could not be made out */
    int proxies;         /* PJSUA_ACC_MAX_PROXIES; 0: its pjsua_acc_config could not be made out */
    int native_affinity; /* it has server affinity of its own */
    int state_callback;  /* what pjsua found in the transport state callback's slot can be read */
} pf_host_facts;

/* loader.c: objects by the loader's own paths for them; NULL is the main program, which the loader calls "" */
int pf_loaded_objects(char *paths, int size);          /* each with its zero; returns the octets they want */
const char *pf_object(const char *path);               /* what the loader calls it; NULL: not loaded */
const char *pf_object_of(const void *address);         /* which one it lies in; NULL: none */
void *pf_symbol(const char *object, const char *name); /* in it, or in what it depends on */
const void *pf_pjsip_data(const char *object);         /* an address within the data that its pjsip works on */

/* layout.c */
const char *pf_layout_of(const char *version); /* the name of that version's row; NULL: none is known */
const char *pf_known_layout(int index);        /* the names of the table's rows; NULL: there are no more */

/* host.c */
const char *pf_built_for(void);       /* pjproject's version at compile time */
int pf_host_open(const char *object); /* binds; pf_host_version() is valid afterwards */
const char *pf_host_version(void);
int pf_host_check(void); /* endpoint and layout; installs nothing */
void pf_read_host_facts(pf_host_facts *facts);
const char *pf_problem(void);
int pf_status(void);
void pf_strerror(int status, char *text, int size);

/* attach.c */
int pf_attach(double deadline, int *attachment); /* seconds a query may wait; its number, from 1 on */
int pf_attached(void);                           /* the number of the one in force, 0: none */
void pf_detach(int attachment);                  /* any thread, again and again; harmless to another */
int pf_is_forked_child(void);                    /* in a forked child of the process that attached */
void pf_read_counters(pf_counters *counters);

/* round_trips.c: of transport PF_UDP, PF_TCP or PF_TLS, since the core was loaded */
void pf_read_round_trips(int transport, pf_round_trips *trips);

/* failover.c */
void pf_set_retry_policy(const pf_retry_policy *policy); /* before pf_attach() */
unsigned long long pf_unwatched(void);                   /* as in pf_counters, without a lock */

/* transport.c: bit 2*t is set where the endpoint has transport t over IPv4, bit 2*t+1 over IPv6 */
int pf_transports(unsigned *found);

/* accounts.c: pjsua's accounts. Any thread of Python's that holds no lock which a callback of pjsua's takes. */
int pf_read_account(int id, pf_account *account);
int pf_account_is_valid(int id);
int pf_set_proxies(int id, const char *const *proxies, int count); /* by pjsua_acc_modify() */
int pf_has_native_affinity(void);
int pf_native_pin(int id, const pf_address *server); /* family 0: unpins */

/* affinity.c */
int pf_set_pin(const pf_pin *pin); /* replaces that of this AOR and account; 0: no memory */
void pf_drop_pin(const char *aor, int account);
int pf_account_job(int job, int account, const char *aor,
                   const pf_address *server); /* on pjsip's polling thread, soon */
pf_registration *pf_next_registration(void);  /* NULL: none; free with pf_free() */

/* outgoing.c: server NULL: wherever the plan says. PF_OK: the end comes by the queue, with id. */
int pf_request(unsigned id, const pf_address *server, const char *method, const char *uri, const char *from,
               const char *to, const char *const *names, const char *const *values, int headers,
               const char *content_type, const char *body, int body_length);
void pf_cancel_request(unsigned id); /* ends it now: it comes by the queue, unless it has come */
pf_response *pf_next_response(void); /* NULL: none; free with pf_free() */

/* dns.c: pjsip's DNS resolver. No addresses: the one that the application configured. */
int pf_dns_open(const char *const *addresses, const unsigned short *ports, int count, int *handle);
int pf_dns_ask(int handle, const char *name, int type, unsigned id); /* PF_OK: the answer comes by the queue */

/* event_queue.c: to the worker, which begins with pf_next_query(): that makes the descriptor unreadable */
int pf_event_fd(void);                                /* readable when there is something to fetch */
pf_query *pf_next_query(void);                        /* NULL: none; free with pf_free() */
pf_dns_answer *pf_next_dns_answer(void);              /* NULL: none; free with pf_free() */
pf_failover *pf_next_failover(void);                  /* NULL: none; free with pf_free() */
void pf_free(void *fetched);                          /* what one of these, or of the other pf_next_*(), returned */
int pf_next_outcomes(pf_outcome *outcomes, int size); /* how many were written */

/* queries.c, plans.c, servers.c: from the worker */
/* The first drawn entries are the plan; the servers of the others are watched, but nothing is sent there. */
int pf_publish(const pf_target *target, const pf_entry *entries, int count, int drawn, double refresh_at,
               double fresh_until);
void pf_ask_each(int each); /* before pf_attach(): each request asks for itself */
/* Answers the request that asked as id with a plan of its own. 0: nobody waits, or no memory. */
int pf_answer(unsigned id, const pf_target *target, const pf_entry *entries, int count);
/* Both end the waiting for the target, or that of the request that asked as id. */
void pf_fail(const pf_target *target, unsigned id, int stale);      /* stale: an old plan may serve */
void pf_pass(const pf_target *target, unsigned id);                 /* the system's resolver answers */
void pf_forget(const pf_target *target);                            /* drops the plan */
void pf_clear_suspect(const pf_address *server, unsigned sequence); /* Python has judged its outcomes up to sequence */
void pf_suspect(const pf_address *server); /* first aid, until it answers or Python has judged what follows */
int pf_read_stats(const pf_address *server, pf_stats *stats); /* 0: the server is in no plan */
double pf_used_at(const pf_target *target);                   /* by a request, last; negative: there is no plan */
int pf_draw(const pf_target *target, unsigned long long seed, pf_address *drawn, int size);
