/* str.h - a borrowed run of bytes: pointer and length, no terminator, no owner. */
#ifndef BASE_STR_H
#define BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct str {
    const char *p;
    size_t n; /* bytes */
} str;

/* A literal as a str. */
#define S(lit) ((str){"" lit, sizeof(lit) - 1})
/* For "%.*s"; long strings are cut so that no message carries a megabyte. */
#define STR(s) ((int)((s).n < 200 ? (s).n : 200)), ((s).p)

static inline str str_of(const char *cstr) {
    return cstr != NULL ? (str){cstr, strlen(cstr)} : (str){"", 0};
}

static inline bool str_eq(str a, str b) {
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

static inline bool str_eq_c(str a, const char *b) { return str_eq(a, str_of(b)); }

static inline bool str_starts(str s, str prefix) {
    return s.n >= prefix.n && (prefix.n == 0 || memcmp(s.p, prefix.p, prefix.n) == 0);
}

static inline bool str_ends(str s, str suffix) {
    return s.n >= suffix.n &&
           (suffix.n == 0 || memcmp(s.p + s.n - suffix.n, suffix.p, suffix.n) == 0);
}

/* s without its first n bytes; n <= s.n. */
static inline str str_skip(str s, size_t n) { return (str){s.p + n, s.n - n}; }

/* Copy into `out` of out_bytes, cut to fit, always terminated. */
void str_copy_c(char *out, size_t out_bytes, str s);

/* Decimal without sign; false on an empty string, another character or overflow. */
bool str_to_u64(str s, uint64_t *out);

/* Decimal number with optional fraction and exponent; false when anything is left over. */
bool str_to_f64(str s, double *out);

/* ASCII case-insensitive equality. */
bool str_eq_nocase(str a, str b);

/* Is s valid UTF-8 (RFC 3629: no surrogates, no overlong forms, at most U+10FFFF)? */
bool str_is_utf8(str s);

/* Has the UTF-8 text a control character: U+0000 to U+001F, or U+007F to U+009F, which terminals
 * obey, too? */
bool str_has_control(str s);

#endif
