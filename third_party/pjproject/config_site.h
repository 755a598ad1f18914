/* Our pjlib/include/pj/config_site.h: what the tests and the demo need of pjproject, and no more. */
#define PJ_HAS_IPV6 1
/* Accounts in one program; stock pjsip has room for 8. */
#define PJSUA_MAX_ACC 512
