#include "sip_write.h"

#include "address.h"

#include <linux/random.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/syscall.h>
#include <unistd.h>

/* A message being written; full: something did not fit. */
struct writing {
    char *text;
    size_t room, length;
    int full;
};

static void sip_write_put(struct writing *writing, const char *bytes, size_t size)
{
    if (writing->full || size > writing->room - writing->length) {
        writing->full = 1;
        return;
    }
    memcpy(writing->text + writing->length, bytes, size);
    writing->length += size;
}

static __attribute__((format(printf, 2, 3))) void sip_write_put_text(struct writing *writing, const char *format, ...)
{
    char line[512];
    va_list arguments;
    int length;

    va_start(arguments, format);
    length = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    if (length < 0 || length >= (int)sizeof line)
        writing->full = 1;
    else
        sip_write_put(writing, line, (size_t)length);
}

static void sip_write_put_header(struct writing *writing, const void *header)
{
    char line[2048];
    int length = host.pjsip_hdr_print_on((void *)(uintptr_t)header, line, sizeof line);

    if (length < 0)
        writing->full = 1;
    else
        sip_write_put(writing, line, (size_t)length);
    sip_write_put_text(writing, "\r\n");
}

static size_t sip_write_finish(struct writing *writing)
{
    sip_write_put_text(writing, "Content-Length: 0\r\n\r\n");
    return writing->full ? 0 : writing->length;
}

/*
 * Returns the end of the header line, with its CRLF, that starts at from; folded lines belong to it. NULL at the end
 * of the headers.
 */
static const char *sip_write_end_of_line(const char *from, const char *end)
{
    const char *at = from;

    do {
        at = memchr(at, '\n', (size_t)(end - at));
        if (!at)
            return NULL;
        at++;
    } while (at < end && (*at == ' ' || *at == '\t'));
    return at;
}

static int sip_write_is_header(const char *line, const char *end, const char *name, char compact)
{
    size_t length = strlen(name);
    const char *at = line;

    if ((size_t)(end - line) > length && !strncasecmp(line, name, length))
        at += length;
    else if (compact && (*line | 0x20) == compact)
        at++;
    else
        return 0;
    while (at < end && (*at == ' ' || *at == '\t'))
        at++;
    return at < end && *at == ':';
}

static unsigned sip_write_cseq_of(const char *line, const char *end)
{
    const char *colon = memchr(line, ':', (size_t)(end - line));

    return colon ? (unsigned)strtoul(colon + 1, NULL, 10) : 0;
}

size_t sip_write_request(char *text, size_t room, const char *method, const char *bytes, size_t size,
                         const pjsip_to_hdr *to)
{
    struct writing writing = { text, room, 0, 0 };
    const char *end = bytes + size, *line = bytes, *next = sip_write_end_of_line(line, end), *uri;
    int vias = 0;

    uri = next ? memchr(line, ' ', (size_t)(next - line)) : NULL;
    if (!uri)
        return 0;
    sip_write_put_text(&writing, "%s", method);
    sip_write_put(&writing, uri, (size_t)(next - uri));
    for (line = next; (next = sip_write_end_of_line(line, end)) != NULL && *line != '\r' && *line != '\n';
         line = next) {
        if (sip_write_is_header(line, next, "Via", 'v')) {
            if (!vias++)
                sip_write_put(&writing, line, (size_t)(next - line));
        } else if (sip_write_is_header(line, next, "CSeq", 0)) {
            sip_write_put_text(&writing, "CSeq: %u %s\r\n", sip_write_cseq_of(line, next), method);
        } else if (to && sip_write_is_header(line, next, "To", 't')) {
            sip_write_put_header(&writing, to);
        } else if (sip_write_is_header(line, next, "To", 't') || sip_write_is_header(line, next, "From", 'f') ||
                   sip_write_is_header(line, next, "Call-ID", 'i') || sip_write_is_header(line, next, "Route", 0) ||
                   sip_write_is_header(line, next, "Max-Forwards", 0)) {
            sip_write_put(&writing, line, (size_t)(next - line));
        }
    }
    return sip_write_finish(&writing);
}

/* Returns the topmost Via, and where it ends; NULL: there is none. */
static const char *sip_write_find_via(const char *bytes, const char *end, const char **next)
{
    const char *line;

    for (line = sip_write_end_of_line(bytes, end); line && (*next = sip_write_end_of_line(line, end)) != NULL;
         line = *next)
        if (sip_write_is_header(line, *next, "Via", 'v'))
            return line;
    return NULL;
}

size_t sip_write_for_transport(char *text, const pjsip_transport *transport, const char *bytes, size_t size)
{
    static const char alias[] = ";alias";
    struct writing writing = { text, size + SIP_WRITE_VIA_ROOM, 0, 0 };
    const pjsip_host_port *name = transport_local_name(transport);
    const int is_v6 = memchr(name->host.ptr, ':', (size_t)name->host.slen) != NULL;
    const pj_str_t over = address_via_name(transport_type(transport));
    const char *next, *via = sip_write_find_via(bytes, bytes + size, &next), *parameters, *end;

    parameters = via ? memchr(via, ';', (size_t)(next - via)) : NULL;
    if (!parameters)
        return 0;
    sip_write_put(&writing, bytes, (size_t)(via - bytes));
    sip_write_put_text(&writing, "Via: SIP/2.0/%.*s %s%.*s%s", (int)over.slen, over.ptr, is_v6 ? "[" : "",
                       (int)name->host.slen, name->host.ptr, is_v6 ? "]" : "");
    if (name->port)
        sip_write_put_text(&writing, ":%d", name->port);
    for (end = next; end > parameters && (end[-1] == '\r' || end[-1] == '\n'); end--)
        ;
    if (host_writes_via_alias() && end - parameters >= (int)sizeof alias - 1 &&
        !memcmp(end - (sizeof alias - 1), alias, sizeof alias - 1))
        end -= sizeof alias - 1;
    sip_write_put(&writing, parameters, (size_t)(end - parameters));
    if (host_writes_via_alias() && !transport_is_udp(transport))
        sip_write_put_text(&writing, "%s", alias);
    sip_write_put_text(&writing, "\r\n");
    sip_write_put(&writing, next, (size_t)(bytes + size - next));
    return writing.full ? 0 : writing.length;
}

/* Writes the topmost Via up to its parameters: protocol, transport and sent-by. */
static void sip_write_put_via(struct writing *writing, const char *bytes, const char *end)
{
    const char *next, *via = sip_write_find_via(bytes, end, &next), *parameters;
    unsigned long long branch = 0;

    if (!via) {
        writing->full = 1;
        return;
    }
    parameters = memchr(via, ';', (size_t)(next - via));
    sip_write_put(writing, via, (size_t)((parameters ? parameters : next - 2) - via));
    (void)!syscall(SYS_getrandom, &branch, sizeof branch, GRND_NONBLOCK); /* glibc 2.17 has no getrandom() */
    sip_write_put_text(writing, ";rport;branch=z9hG4bKPjf%llx\r\n", branch);
}

size_t sip_write_in_dialog(char *text, size_t room, const char *method, const pjsip_rx_data *response,
                           const char *bytes, size_t size)
{
    struct writing writing = { text, room, 0, 0 };
    pjsip_msg *msg = RDATA_INFO(response)->msg;
    pjsip_contact_hdr *contact = host.pjsip_msg_find_hdr(msg, PJSIP_H_CONTACT, NULL);
    const pjsip_hdr *header;
    char uri[1024];
    int length;

    if (!contact || !contact->uri)
        return 0;
    length = pjsip_uri_print(PJSIP_URI_IN_REQ_URI, pjsip_uri_get_uri(contact->uri), uri, sizeof uri);
    if (length <= 0)
        return 0;
    sip_write_put_text(&writing, "%s ", method);
    sip_write_put(&writing, uri, (size_t)length);
    sip_write_put_text(&writing, " SIP/2.0\r\n");
    sip_write_put_via(&writing, bytes, bytes + size);
    sip_write_put_text(&writing, "Max-Forwards: 70\r\n");
    /* The route set is the Record-Routes from the last to the first. */
    for (header = msg->hdr.prev; header != &msg->hdr; header = header->prev)
        if (header->type == PJSIP_H_RECORD_ROUTE) {
            char line[2048];
            int printed = host.pjsip_hdr_print_on((void *)(uintptr_t)header, line, sizeof line);
            const char *colon = printed > 0 ? memchr(line, ':', (size_t)printed) : NULL;

            if (!colon)
                return 0;
            sip_write_put_text(&writing, "Route");
            sip_write_put(&writing, colon, (size_t)(line + printed - colon));
            sip_write_put_text(&writing, "\r\n");
        }
    sip_write_put_header(&writing, RDATA_INFO(response)->from);
    sip_write_put_header(&writing, RDATA_INFO(response)->to);
    sip_write_put_header(&writing, RDATA_INFO(response)->cid);
    sip_write_put_text(&writing, "CSeq: %u %s\r\n",
                       (unsigned)RDATA_INFO(response)->cseq->cseq + (strcmp(method, "ACK") != 0), method);
    return sip_write_finish(&writing);
}
