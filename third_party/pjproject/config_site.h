/* Our pjlib/include/pj/config_site.h: what the tests and the demo need of pjproject, and no more. */
#define PJ_HAS_IPV6 1
