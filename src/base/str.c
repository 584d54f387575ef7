/* str.c - see str.h. */
#include "base/str.h"

#include <ctype.h>
#include <stdlib.h>

void str_copy_c(char *out, size_t out_bytes, str s) {
    size_t n = s.n < out_bytes - 1 ? s.n : out_bytes - 1;
    if (n != 0) memcpy(out, s.p, n);
    out[n] = '\0';
}

bool str_to_u64(str s, uint64_t *out) {
    if (s.n == 0) return false;
    uint64_t value = 0;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9') return false;
        if (__builtin_mul_overflow(value, 10u, &value)) return false;
        if (__builtin_add_overflow(value, (uint64_t)(s.p[i] - '0'), &value)) return false;
    }
    *out = value;
    return true;
}

bool str_to_f64(str s, double *out) {
    char text[64];
    if (s.n == 0 || s.n >= sizeof text) return false;
    str_copy_c(text, sizeof text, s);
    /* strtod alone would also take spaces, "nan", "inf" and hexadecimal */
    if (strspn(text, "0123456789+-.eE") != s.n) return false;
    char *end = NULL;
    double value = strtod(text, &end);
    if (end != text + s.n) return false;
    *out = value;
    return true;
}

bool str_eq_nocase(str a, str b) {
    if (a.n != b.n) return false;
    for (size_t i = 0; i < a.n; i++)
        if (tolower((unsigned char)a.p[i]) != tolower((unsigned char)b.p[i])) return false;
    return true;
}

/* Bytes of the sequence that starts at p (1 to 4), 0 when it is not valid UTF-8. */
static size_t utf8_sequence_bytes(const unsigned char *p, size_t n) {
    if (p[0] < 0x80) return 1;
    size_t want = p[0] >= 0xF0 ? 4 : p[0] >= 0xE0 ? 3 : 2;
    if (p[0] < 0xC2 || p[0] > 0xF4 || n < want) return 0;
    for (size_t i = 1; i < want; i++)
        if ((p[i] & 0xC0) != 0x80) return 0;
    if (p[0] == 0xE0 && p[1] < 0xA0) return 0; /* overlong */
    if (p[0] == 0xED && p[1] > 0x9F) return 0; /* surrogate */
    if (p[0] == 0xF0 && p[1] < 0x90) return 0; /* overlong */
    if (p[0] == 0xF4 && p[1] > 0x8F) return 0; /* above U+10FFFF */
    return want;
}

bool str_is_utf8(str s) {
    const unsigned char *p = (const unsigned char *)s.p;
    for (size_t i = 0; i < s.n;) {
        size_t step = utf8_sequence_bytes(p + i, s.n - i);
        if (step == 0) return false;
        i += step;
    }
    return true;
}

bool str_has_control(str s) {
    unsigned char before = 0;
    for (size_t i = 0; i < s.n; i++) {
        unsigned char byte = (unsigned char)s.p[i];
        if (byte < 0x20 || byte == 0x7f || (before == 0xc2 && byte < 0xa0)) return true;
        before = byte;
    }
    return false;
}
