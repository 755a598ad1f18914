#include "register_copy.h"

#include "dialogs.h"
#include "text.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* Octets, for the Routes that are not in the packet. */
enum { MORE_ROOM = 2000 };

/* Returns the message's Contact, other than one that pjsua removes; NULL: none. */
static pjsip_contact_hdr *register_copy_contact_of(const pjsip_msg *message)
{
    pjsip_contact_hdr *header = host.pjsip_msg_find_hdr(message, PJSIP_H_CONTACT, NULL);

    while (header && header->expires == 0)
        header = host.pjsip_msg_find_hdr(message, PJSIP_H_CONTACT, header->next);
    return header;
}

static pjsip_sip_uri *register_copy_uri_of(const pjsip_contact_hdr *contact)
{
    pjsip_uri *uri = contact && contact->uri ? pjsip_uri_get_uri(contact->uri) : NULL;
    const pj_str_t *scheme = uri ? pjsip_uri_get_scheme(uri) : NULL;

    return scheme && scheme->slen >= 3 && !strncasecmp(scheme->ptr, "sips", (size_t)scheme->slen)
               ? (pjsip_sip_uri *)(void *)uri
               : NULL;
}

void register_copy_read_place(const pjsip_msg *message, struct contact_place *at)
{
    const pjsip_sip_uri *uri = register_copy_uri_of(register_copy_contact_of(message));

    memset(at, 0, sizeof *at);
    if (!uri)
        return;
    copy_text(at->host, sizeof at->host, &uri->host);
    at->port = uri->port                                                              ? uri->port
               : uri->transport_param.slen == 3 && uri->transport_param.ptr[1] == 'l' ? 5061
                                                                                      : 5060;
}

void register_copy_read_seen(pjsip_msg *response, struct contact_place *at)
{
    const pjsip_via_hdr *via = host.pjsip_msg_find_hdr(response, PJSIP_H_VIA, NULL);

    memset(at, 0, sizeof *at);
    if (!via || via->rport_param <= 0)
        return;
    copy_text(at->host, sizeof at->host, via->recvd_param.slen ? &via->recvd_param : &via->sent_by.host);
    at->port = via->rport_param;
}

int register_copy_same_place(const struct contact_place *one, const struct contact_place *other)
{
    return one->port == other->port && !strcmp(one->host, other->host);
}

/* Returns whether pjsip's registration client adds the header by itself, or each request has its own. */
static int register_copy_is_of_one_request(const pjsip_hdr *header)
{
    /* What the program has written itself answers a challenge of its own server, and is no other's to see. */
    if (dialogs_is_credentials(header))
        return 1;
    switch (header->type) {
    case PJSIP_H_VIA:
    case PJSIP_H_CALL_ID:
    case PJSIP_H_CSEQ:
    case PJSIP_H_MAX_FORWARDS:
    case PJSIP_H_CONTENT_LENGTH:
    case PJSIP_H_ALLOW: return 1;
    default: return 0;
    }
}

/* Writes the header as a line. Returns its length; negative: there is no room. */
static int register_copy_write_header(const pjsip_hdr *header, char *text, int size)
{
    int length, prefix = 0;

    if (header->type == PJSIP_H_ROUTE) { /* pjsip itself prints no hidden one */
        const pjsip_route_hdr *route = (const pjsip_route_hdr *)(const void *)header;

        pjsip_uri *uri = route->name_addr.uri;

        prefix = snprintf(text, (size_t)size, "Route: <");
        if (!uri || prefix >= size)
            return -1;
        length = pjsip_uri_print(PJSIP_URI_IN_ROUTING_HDR, uri, text + prefix, (pj_size_t)(size - prefix));
        if (length > 0 && prefix + length + 1 < size)
            text[prefix + length++] = '>';
    } else {
        length = header->vptr->print_on((void *)(uintptr_t)header, text, (pj_size_t)size);
    }
    if (length < 0 || prefix + length + 2 >= size)
        return -1;
    memcpy(text + prefix + length, "\r\n", 2);
    return prefix + length + 2;
}

char *register_copy_make(const pjsip_tx_data *request)
{
    const pjsip_msg *message = tdata_msg(request);
    const pjsip_hdr *header;
    size_t packet;
    int size, at, length;
    char *text;

    tdata_bytes(request, &packet);
    size = (int)packet + MORE_ROOM;
    text = malloc((size_t)size);
    if (!text)
        return NULL;
    at = snprintf(text, (size_t)size, "REGISTER ");
    length = pjsip_uri_print(PJSIP_URI_IN_REQ_URI, message->line.req.uri, text + at, (pj_size_t)(size - at));
    at += length > 0 ? length : 0;
    at += snprintf(text + at, (size_t)(size - at), " SIP/2.0\r\n");
    for (header = message->hdr.next; length > 0 && header != &message->hdr; header = header->next) {
        if (register_copy_is_of_one_request(header))
            continue;
        length = register_copy_write_header(header, text + at, size - at - 3);
        at += length > 0 ? length : 0;
    }
    if (length <= 0 || at + 3 > size) {
        free(text);
        return NULL;
    }
    memcpy(text + at, "\r\n", 3);
    return text;
}

/* Returns the header's value as pjsip prints it, in text; NULL: it does not fit. */
static const char *register_copy_value_of(const pjsip_hdr *header, char *text, int size)
{
    int length = header->vptr->print_on((void *)(uintptr_t)header, text, (pj_size_t)(size - 1));
    const char *value;

    if (length <= 0)
        return NULL;
    text[length] = '\0';
    value = strchr(text, ':');
    return value ? value + 1 + strspn(value + 1, " ") : NULL;
}

int register_copy_write_contact(pj_pool_t *pool, const pjsip_msg *message, const struct contact_place *at,
                                unsigned number, char contact[REGISTER_COPY_MAX_CONTACT])
{
    static const char parameter[] = ";reg-id=";
    pjsip_contact_hdr *header = register_copy_contact_of(message);
    pjsip_sip_uri *uri = register_copy_uri_of(header);
    char text[REGISTER_COPY_MAX_CONTACT];
    const char *value, *id;
    pj_str_t host_name;

    if (!uri)
        return 0;
    if (at->port) {
        host_name.slen = (pj_ssize_t)strlen(at->host);
        host_name.ptr = host.pj_pool_alloc(pool, strlen(at->host) + 1);
        if (!host_name.ptr)
            return 0;
        memcpy(host_name.ptr, at->host, strlen(at->host) + 1);
        uri->host = host_name;
        uri->port = at->port;
    }
    value = register_copy_value_of((const pjsip_hdr *)header, text, sizeof text);
    if (!value)
        return 0;
    id = strstr(value, parameter);
    if (!id)
        return snprintf(contact, REGISTER_COPY_MAX_CONTACT, "%s", value) < REGISTER_COPY_MAX_CONTACT;
    id += strlen(parameter);
    return snprintf(contact, REGISTER_COPY_MAX_CONTACT, "%.*s%u%s", (int)(id - value), value, number,
                    id + strspn(id, "0123456789")) < REGISTER_COPY_MAX_CONTACT;
}

/* Moves the message's headers that are not the client's own to others, and the Routes to routes. */
static void register_copy_sort_headers(pjsip_msg *message, pjsip_hdr *routes, pjsip_hdr *others)
{
    pjsip_hdr *header, *next;

    /* As pj_list_init() does, which asserts with a function that we do not link. */
    routes->next = routes->prev = routes;
    others->next = others->prev = others;
    for (header = message->hdr.next; header != &message->hdr; header = next) {
        pjsip_hdr *list = header->type == PJSIP_H_ROUTE ? routes : others;

        next = header->next;
        if (header->type == PJSIP_H_FROM || header->type == PJSIP_H_TO || header->type == PJSIP_H_CONTACT ||
            header->type == PJSIP_H_EXPIRES)
            continue;
        header->prev->next = header->next; /* as pj_list_erase() does */
        header->next->prev = header->prev;
        header->prev = list->prev;
        header->next = list;
        list->prev->next = header;
        list->prev = header;
    }
}

pj_status_t register_copy_prepare(pjsip_regc *regc, pjsip_msg *message, const char *contact_text)
{
    const pjsip_expires_hdr *expires = host.pjsip_msg_find_hdr(message, PJSIP_H_EXPIRES, NULL);
    const pjsip_hdr *from = host.pjsip_msg_find_hdr(message, PJSIP_H_FROM, NULL);
    const pj_str_t contact = { (char *)(uintptr_t)contact_text, (pj_ssize_t)strlen(contact_text) };
    char uri[PF_MAX_URI], from_text[2 * PF_MAX_URI];
    pj_str_t server, own;
    pjsip_hdr routes, others;
    pj_status_t status;
    int length;

    length = pjsip_uri_print(PJSIP_URI_IN_REQ_URI, message->line.req.uri, uri, sizeof uri);
    if (length <= 0 || !from)
        return PJ_EINVAL;
    server.ptr = uri;
    server.slen = length;
    length = pjsip_uri_print(PJSIP_URI_IN_FROMTO_HDR, ((const pjsip_from_hdr *)from)->uri, from_text, sizeof from_text);
    if (length <= 0)
        return PJ_EINVAL;
    own.ptr = from_text;
    own.slen = length;
    register_copy_sort_headers(message, &routes, &others);
    status = host.pjsip_regc_init(regc, &server, &own, &own, 1, &contact,
                                  expires ? (pj_uint32_t)expires->ivalue : PJSIP_REGC_EXPIRATION_NOT_SPECIFIED);
    if (status == PJ_SUCCESS)
        status = host.pjsip_regc_set_route_set(regc, (const pjsip_route_hdr *)(const void *)&routes);
    if (status == PJ_SUCCESS)
        status = host.pjsip_regc_add_headers(regc, &others);
    return status;
}
