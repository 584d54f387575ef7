/* door.c - see door.h. */
#include "api/door.h"

#include <sodium.h>

/* "name:port", "[v6]:port", "name": the part before the port, without brackets. */
static str host_name(str host) {
    if (host.n > 0 && host.p[0] == '[') {
        const char *end = memchr(host.p, ']', host.n);
        return end != NULL ? (str){host.p + 1, (size_t)(end - host.p) - 1} : host;
    }
    const char *colon = memchr(host.p, ':', host.n);
    if (colon == NULL || memchr(colon + 1, ':', host.n - (size_t)(colon - host.p) - 1) != NULL)
        return host; /* none, or an IPv6 address without brackets */
    return (str){host.p, (size_t)(colon - host.p)};
}

/* 127.a.b.c with plain decimal parts; other spellings of the address are no name of ours. */
static bool is_loopback_v4(str s) {
    uint32_t parts = 0;
    while (s.n > 0 && parts < 4) {
        const char *dot = memchr(s.p, '.', s.n);
        str part = {s.p, dot != NULL ? (size_t)(dot - s.p) : s.n};
        uint64_t v = 0;
        if (part.n > 3 || !str_to_u64(part, &v) || v > 255 || (parts == 0 && v != 127))
            return false;
        parts++;
        if (dot == NULL) return parts == 4;
        s = str_skip(s, part.n + 1);
    }
    return false;
}

bool door_is_loopback(str host) {
    str name = host_name(host);
    if (str_eq_nocase(name, S("localhost")) || str_eq(name, S("::1"))) return true;
    return is_loopback_v4(name);
}

static void hash_key(uint8_t out[DOOR_HASH_BYTES], str key) {
    (void)crypto_generichash(out, DOOR_HASH_BYTES, (const unsigned char *)key.p, key.n, NULL, 0);
}

void door_init(door *d, const front_options *options) {
    *d = (door){.options = options};
    d->loopback = options->http.host != NULL && door_is_loopback(str_of(options->http.host));
    d->guarded = options->api_key != NULL && options->api_key[0] != '\0';
    if (d->guarded) hash_key(d->key_hash, str_of(options->api_key));
}

bool door_host_ok(const door *d, const door_visit *v, api_fault *f) {
    if (!d->loopback) return true;
    if (v->host.p != NULL && door_is_loopback(v->host)) return true;
    for (uint32_t i = 0; v->host.p != NULL && i < d->options->allowed_hosts_count; i++) {
        str allowed = str_of(d->options->allowed_hosts[i]);
        if (str_eq_nocase(v->host, allowed) || str_eq_nocase(host_name(v->host), allowed))
            return true;
    }
    return api_fault_set(f, API_FORBIDDEN, NULL,
                         "the Host header is neither a loopback name nor an allowed host");
}

bool door_origin_listed(const door *d, str origin) {
    for (uint32_t i = 0; i < d->options->cors_origins_count; i++) {
        str listed = str_of(d->options->cors_origins[i]);
        if (str_eq(listed, S("*")) || str_eq_nocase(listed, origin)) return true;
    }
    return false;
}

/* The authority of an http or https origin without its default port; p == NULL otherwise. */
static str origin_authority(str origin) {
    bool plain = origin.n > 7 && str_eq_nocase((str){origin.p, 7}, S("http://"));
    bool tls = origin.n > 8 && str_eq_nocase((str){origin.p, 8}, S("https://"));
    if (!plain && !tls) return (str){0};
    str a = str_skip(origin, plain ? 7 : 8);
    str port = plain ? S(":80") : S(":443");
    if (str_ends(a, port)) a.n -= port.n;
    return a;
}

bool door_origin_ok(const door *d, const door_visit *v, api_fault *f) {
    if (v->origin.p == NULL || door_origin_listed(d, v->origin)) return true;
    str authority = origin_authority(v->origin);
    if (authority.p != NULL && v->host.p != NULL && str_eq_nocase(authority, v->host)) return true;
    return api_fault_set(f, API_FORBIDDEN, NULL,
                         "pages of another origin may not use this server; list the origin to "
                         "allow it");
}

/* "Bearer <key>" (RFC 6750), the scheme in any case; p == NULL for anything else. */
static str bearer(str authorization) {
    if (authorization.n < 7 || !str_eq_nocase((str){authorization.p, 7}, S("bearer ")))
        return (str){0};
    str key = str_skip(authorization, 7);
    while (key.n > 0 && key.p[0] == ' ') key = str_skip(key, 1);
    return key;
}

static bool key_matches(const door *d, str key) {
    uint8_t hash[DOOR_HASH_BYTES];
    hash_key(hash, key);
    return sodium_memcmp(hash, d->key_hash, sizeof hash) == 0;
}

bool door_key_ok(const door *d, const door_visit *v, api_fault *f) {
    if (!d->guarded) return true;
    str key = bearer(v->authorization);
    if (key.p == NULL) key = v->api_key;
    if (key.p == NULL)
        return api_fault_set(f, API_UNAUTHORIZED, NULL,
                             "no API key: send it as 'Authorization: Bearer KEY' or 'x-api-key'");
    if (key_matches(d, key)) return true;
    return api_fault_set(f, API_UNAUTHORIZED, NULL, "the API key is not valid");
}

bool door_change_ok(const door *d, str peer, api_fault *f) {
    str mapped = S("::ffff:"); /* an IPv4 client of an IPv6 socket */
    if (d->guarded) return true;
    if (str_starts(peer, mapped)) peer = str_skip(peer, mapped.n);
    if (str_eq(peer, S("::1")) || is_loopback_v4(peer)) return true;
    return api_fault_set(f, API_FORBIDDEN, NULL,
                         "this changes the server: without an API key only clients of the same "
                         "machine may (--api-key)");
}
