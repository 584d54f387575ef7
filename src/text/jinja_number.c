/* jinja_number.c - see jinja_number.h. */
#include "text/jinja_number.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "text/jinja_unicode.h"

static str strip(str s) { return jinja_strip_right(jinja_strip_left(s)); }

static int digit_value(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    char lower = (char)(c | 0x20);
    return lower >= 'a' && lower <= 'z' ? lower - 'a' + 10 : 99;
}

/* Takes "0x" and the like away where the base asks for it or is 0, which it then settles. */
static bool take_prefix(str *s, int *base) {
    char letter = (char)(s->n > 2 && s->p[0] == '0' ? s->p[1] | 0x20 : '\0');
    int named = letter == 'x' ? 16 : letter == 'o' ? 8 : letter == 'b' ? 2 : 0;
    if (named != 0 && (*base == 0 || *base == named)) {
        *base = named;
        *s = str_skip(*s, s->p[2] == '_' ? 3 : 2);
        return true;
    }
    if (*base != 0) return true;
    *base = 10; /* no leading zeros then, but for zero itself */
    for (size_t i = 0; s->n > 1 && s->p[0] == '0' && i < s->n; i++)
        if (s->p[i] != '0' && s->p[i] != '_') return false;
    return true;
}

bool jinja_parse_int(str s, int base, jinja_int *out) {
    s = strip(s);
    bool minus = s.n != 0 && s.p[0] == '-';
    if (s.n != 0 && (s.p[0] == '-' || s.p[0] == '+')) s = str_skip(s, 1);
    if (!take_prefix(&s, &base) || s.n == 0) return false;
    jinja_int v = 0;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == '_' && i != 0 && i + 1 < s.n && s.p[i - 1] != '_') continue;
        int digit = digit_value(s.p[i]);
        if (digit >= base) return false;
        if (__builtin_mul_overflow(v, (jinja_int)base, &v)) return false;
        if (__builtin_add_overflow(v, (jinja_int)digit, &v)) return false;
    }
    *out = minus ? -v : v;
    return true;
}

/* Is s digits with single underscores between, a point and an exponent? */
static bool is_float_text(str s) {
    bool digits = false, exponent = false, point = false;
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        char before = (char)(i != 0 ? s.p[i - 1] : '\0');
        char after = (char)(i + 1 < s.n ? s.p[i + 1] : '\0');
        bool sign_place = i == 0 || (before | 0x20) == 'e';
        if (c >= '0' && c <= '9') {
            digits = true;
        } else if (c == '_') {
            if (before < '0' || before > '9' || after < '0' || after > '9') return false;
        } else if (c == '.') {
            if (point || exponent) return false;
            point = true;
        } else if ((c | 0x20) == 'e') {
            if (exponent || !digits) return false;
            exponent = true;
            digits = false;
        } else if ((c != '+' && c != '-') || !sign_place) {
            return false;
        }
    }
    return digits;
}

bool jinja_parse_float(str s, double *out) {
    char text[400];
    s = strip(s);
    str word = s.n != 0 && (s.p[0] == '-' || s.p[0] == '+') ? str_skip(s, 1) : s;
    double sign = s.n != 0 && s.p[0] == '-' ? -1.0 : 1.0;
    if (str_eq_nocase(word, S("inf")) || str_eq_nocase(word, S("infinity"))) {
        *out = sign * HUGE_VAL;
        return true;
    }
    if (str_eq_nocase(word, S("nan"))) {
        *out = (double)NAN;
        return true;
    }
    if (s.n >= sizeof text || !is_float_text(s)) return false;
    size_t n = 0;
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] != '_') text[n++] = s.p[i];
    text[n] = '\0';
    *out = strtod(text, NULL);
    return true;
}

size_t jinja_write_int(char out[JINJA_NUMBER_BYTES], jinja_int v) {
    char digits[JINJA_NUMBER_BYTES];
    jinja_uint u = v < 0 ? -(jinja_uint)v : (jinja_uint)v;
    size_t n = 0, at = 0;
    do digits[n++] = (char)('0' + (int)(u % 10));
    while ((u /= 10) != 0);
    if (v < 0) out[at++] = '-';
    while (n != 0) out[at++] = digits[--n];
    out[at] = '\0';
    return at;
}

/* Fixed notation for exponents from -4 to 15, as Python's repr does. */
size_t jinja_write_float(char out[JINJA_NUMBER_BYTES], double v) {
    if (isnan(v)) return (size_t)snprintf(out, JINJA_NUMBER_BYTES, "nan");
    if (isinf(v)) return (size_t)snprintf(out, JINJA_NUMBER_BYTES, v < 0 ? "-inf" : "inf");
    char text[JINJA_NUMBER_BYTES];
    int digits = 1; /* behind them all is a double: 17 always do */
    for (; digits <= 17; digits++) {
        (void)snprintf(text, sizeof text, "%.*e", digits - 1, v);
        if (strtod(text, NULL) == v) break;
    }
    char *e = strchr(text, 'e');
    int exponent = e != NULL ? (int)strtol(e + 1, NULL, 10) : 0;
    if (exponent >= -4 && exponent < 16) {
        int decimals = digits - 1 - exponent;
        return (size_t)snprintf(out, JINJA_NUMBER_BYTES, "%.*f", decimals > 1 ? decimals : 1, v);
    }
    return (size_t)snprintf(out, JINJA_NUMBER_BYTES, "%s", text);
}

bool jinja_float_to_int(double f, jinja_int *out) {
    if (!(f > -0x1p127 && f < 0x1p127)) return false;
    *out = (jinja_int)f;
    return true;
}
