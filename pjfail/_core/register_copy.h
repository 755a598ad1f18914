/*
 * register_copy.h: what a standby takes over from its account's own REGISTER, and which Contact it has instead.
 *
 * Functions of messages alone: no state, no lock. Any thread that may use the message.
 */
#pragma once

#include "layout.h"
#include "pjfail.h"

enum { REGISTER_COPY_MAX_CONTACT = 1000 };

/* The host and port of a Contact, or what a server saw of them. port 0: unknown. */
struct contact_place {
    char host[PF_MAX_HOST];
    int port;
};

int register_copy_same_place(const struct contact_place *one, const struct contact_place *other);

/* Fills in the host and port of the request's Contact. */
void register_copy_read_place(const pjsip_msg *request, struct contact_place *at);

/* Fills in where the server says that the request came from (RFC 3581). */
void register_copy_read_seen(pjsip_msg *response, struct contact_place *at);

/*
 * Returns what a standby copies of the REGISTER, as text, the caller's to free; NULL: no memory, or more hidden Routes
 * than fit.
 */
char *register_copy_make(const pjsip_tx_data *request);

/*
 * Writes the copy's Contact, with that host and port where port is not 0. That of a standby has number for its reg-id
 * (RFC 5626 section 4.2), if the account's has one. Changes the message, whose memory comes from pool. Returns 0 if there is
 * no Contact, or it is too long.
 */
int register_copy_write_contact(pj_pool_t *pool, const pjsip_msg *message, const struct contact_place *at,
                                unsigned number, char contact[REGISTER_COPY_MAX_CONTACT]);

/* Prepares the client to send the copy, with that Contact. Takes the copy's headers out of it. */
pj_status_t register_copy_prepare(pjsip_regc *regc, pjsip_msg *message, const char *contact);
