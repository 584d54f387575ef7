/* http_head.c - is this head sound?
 *
 * libmicrohttpd 0.9.75 is lenient where two readers of one byte stream may come to different
 * conclusions about where a request ends (request smuggling): it ignores Content-Length beside
 * Transfer-Encoding, reads the first of several, takes an unknown coding for "until close",
 * lets a field name end in a space, cuts values at a NUL, joins folded lines, ends lines at a
 * bare line feed, and even ends the head at a line that begins with a colon.  Each of these is
 * refused here, before the handler and before a byte of the body.
 *
 * The last four leave no trace in what the library reports, but in where it reports it: that
 * version parses in place, so in a sound head each string begins a fixed distance after the end
 * of the one before, and the last one ends right before the end of the head.
 * Source: RFC 9112, sections 2.2, 5 and 6. */
#include <string.h>

#include "net/http_internal.h"

typedef struct head_scan {
    const char *why; /* first thing wrong, NULL while all is well */
    uint32_t lengths, codings, hosts;
    str length, coding, expect;
    const char *at; /* where the next name must be; NULL: not known */
} head_scan;

enum { LINE_END_BYTES = 2 };

bool http_is_token_byte(unsigned char c) {
    bool alnum = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    return alnum || (c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

static bool is_token(str s) {
    for (size_t i = 0; i < s.n; i++)
        if (!http_is_token_byte((unsigned char)s.p[i])) return false;
    return s.n > 0;
}

static bool has_control(str s) {
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f) return true;
    }
    return false;
}

bool http_head_is_in_place(void) {
    const char *version = MHD_get_version();
    return strcmp(version, "0.9.75") == 0 || strcmp(version, "0.9.76") == 0;
}

static const char *check_target(str target) {
    for (size_t i = 0; i < target.n; i++)
        if ((unsigned char)target.p[i] <= ' ' || target.p[i] == 0x7f)
            return "the request target has a space or a control byte";
    return NULL;
}

/* Method, space, target, space, version: nothing between them, nothing left out. */
static void scan_request_line(head_scan *scan, const http_head_text *text) {
    const char *target = text->method + strlen(text->method) + 1;
    if (text->version != target + text->target.n + 1)
        scan->why = "the request line has a NUL or a space too many";
    scan->at = text->version + strlen(text->version) + LINE_END_BYTES;
}

static enum MHD_Result scan_field(void *cls, enum MHD_ValueKind kind, const char *name_text,
                                  const char *value_text) {
    head_scan *scan = cls;
    (void)kind;
    str name = str_of(name_text), value = str_of(value_text);
    if (scan->at != NULL && scan->at != name_text)
        scan->why = "a header line is folded, has a NUL or ends in a bare line feed";
    if (scan->at != NULL) scan->at = value_text + value.n + LINE_END_BYTES;
    if (!is_token(name)) scan->why = "a header name is no token";
    if (has_control(value)) scan->why = "a header value has control bytes";
    if (str_eq_nocase(name, S("content-length"))) {
        scan->lengths++;
        scan->length = value;
    } else if (str_eq_nocase(name, S("transfer-encoding"))) {
        scan->codings++;
        scan->coding = value;
    } else if (str_eq_nocase(name, S("host"))) {
        scan->hosts++;
    } else if (str_eq_nocase(name, S("expect"))) {
        scan->expect = value;
    }
    return MHD_YES;
}

static const char *check_framing(const head_scan *scan, bool http_1_0) {
    if (scan->hosts > 1) return "more than one Host";
    if (scan->hosts == 0 && !http_1_0) return "Host is missing";
    if (scan->lengths > 1) return "more than one Content-Length";
    if (scan->codings > 1) return "more than one Transfer-Encoding";
    if (scan->lengths > 0 && scan->codings > 0) return "both Content-Length and Transfer-Encoding";
    if (scan->codings > 0 && http_1_0) return "Transfer-Encoding in HTTP/1.0";
    return NULL;
}

/* The framing fields, once the scan has found all fields in order. */
static unsigned judge(const head_scan *scan, http_head *head, const char **why) {
    *why = scan->why != NULL ? scan->why : check_framing(scan, head->http_1_0);
    if (*why == NULL && scan->lengths > 0 && !str_to_u64(scan->length, &head->content_bytes))
        *why = "Content-Length is no number";
    if (*why != NULL) return MHD_HTTP_BAD_REQUEST;
    if (scan->codings > 0 && !str_eq_nocase(scan->coding, S("chunked"))) {
        *why = "the transfer coding is not chunked";
        return MHD_HTTP_NOT_IMPLEMENTED;
    }
    head->chunked = scan->codings > 0;
    head->expects_continue = !head->http_1_0 && str_eq_nocase(scan->expect, S("100-continue"));
    return 0;
}

unsigned http_head_check(struct MHD_Connection *connection, const http_head_text *text,
                         size_t bytes_max, http_head *head, const char **why) {
    head_scan scan = {0};
    *head = (http_head){.http_1_0 = strcmp(text->version, "HTTP/1.0") == 0};
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
    size_t bytes = info != NULL ? info->header_size : 0;
    if (bytes > bytes_max) {
        *why = "the request head is too large";
        return MHD_HTTP_REQUEST_HEADER_FIELDS_TOO_LARGE;
    }
    scan.why = check_target(text->target);
    if (text->in_place) scan_request_line(&scan, text);
    (void)MHD_get_connection_values(connection, MHD_HEADER_KIND, scan_field, &scan);
    if (text->in_place && scan.at + LINE_END_BYTES != text->method + bytes)
        scan.why = "the head does not end in an empty line";
    return judge(&scan, head, why);
}
