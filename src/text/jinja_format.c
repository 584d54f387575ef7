/* jinja_format.c - the two ways of Python to fill in a format: "%5.2f" % x and "{:5.2f}".format(x).
 *
 * Both end in the same few functions: a value becomes a body, the body is padded.
 * Source: the Python library reference, "printf-style String Formatting" and "Format String
 * Syntax". */
#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/num.h"
#include "text/jinja_number.h"
#include "text/jinja_run.h"
#include "text/jinja_unicode.h"

enum { WIDTH_MAX = 1 << 20, PRECISION_MAX = 300, FLOAT_BYTES = 700, DIGITS_BYTES = 140 };

typedef struct format_spec {
    uint32_t fill;  /* character */
    char align;     /* < > ^ = or 0: as the type has it */
    char sign;      /* + - space, or 0: none was given */
    bool alternate; /* # */
    bool zero;      /* 0 before the width */
    char grouping;  /* , _ or 0 */
    int64_t width;
    int64_t precision; /* -1: none */
    char type;         /* 0: none */
} format_spec;

/* --- bodies and padding --------------------------------------------------------------- */

static status put_fill(jinja_run *r, uint32_t c, size_t n) {
    TRY(jinja_step_bytes(r, n));
    for (size_t i = 0; i < n; i++) jinja_text_put_char(r, c);
    return OK;
}

/* `sign` is what padding with = goes behind. */
static status put_padded(jinja_run *r, const format_spec *s, char otherwise, str sign, str body) {
    size_t n = jinja_char_count(sign) + jinja_char_count(body);
    size_t pad = s->width > 0 && (size_t)s->width > n ? (size_t)s->width - n : 0;
    char align = (char)(s->align != '\0' ? s->align : otherwise);
    size_t left = align == '>' ? pad : align == '^' ? pad / 2 : 0;
    TRY(put_fill(r, s->fill, left));
    jinja_text_put(r, sign);
    if (align == '=') TRY(put_fill(r, s->fill, pad));
    jinja_text_put(r, body);
    return put_fill(r, s->fill, align == '<' || align == '^' ? pad - left : 0);
}

static status put_text(jinja_run *r, const format_spec *s, char otherwise, str text) {
    TRY(jinja_step_bytes(r, text.n));
    if (s->precision >= 0) text.n = jinja_char_offset(text, (size_t)s->precision);
    return put_padded(r, s, otherwise, S(""), text);
}

/* Digits in groups of three (of four for _ with other bases than ten), zeros in front up to the
 * width where these are asked for. */
static size_t group(char *out, str digits, char mark, size_t every, size_t width) {
    size_t whole = every == 3 ? num_min_size(strcspn(digits.p, ".e%E"), digits.n) : digits.n, n = 0;
    size_t zeros = 0;
    while (width != 0 && zeros < 64) {
        size_t count = whole + zeros;
        if (count + (count - 1) / every + digits.n - whole >= width) break;
        zeros++;
    }
    for (size_t i = 0; i < zeros + whole; i++) {
        size_t left = zeros + whole - i;
        if (i != 0 && left % every == 0) out[n++] = mark;
        out[n++] = (char)(i < zeros ? '0' : digits.p[i - zeros]);
    }
    memcpy(out + n, digits.p + whole, digits.n - whole);
    n += digits.n - whole;
    out[n] = '\0';
    return n;
}

static status put_digits(jinja_run *r, const format_spec *s, bool minus, str prefix, str digits) {
    char sign[8], grouped[2 * FLOAT_BYTES + 128];
    int n = snprintf(sign, sizeof sign, "%s%.*s",
                     minus                              ? "-"
                     : s->sign == '+' || s->sign == ' ' ? (s->sign == '+' ? "+" : " ")
                                                        : "",
                     STR(prefix));
    str front = {sign, (size_t)n};
    if (s->grouping != '\0') {
        bool zeros = s->fill == '0' && s->align == '=';
        size_t width = zeros && s->width > n ? (size_t)(s->width - n) : 0;
        size_t every = s->grouping == '_' && prefix.n + (s->type == 'x' || s->type == 'X' ||
                                                         s->type == 'o' || s->type == 'b') !=
                                                 0
                           ? 4
                           : 3;
        digits = (str){grouped, group(grouped, digits, s->grouping, every, width)};
    }
    return put_padded(r, s, '>', front, digits);
}

static size_t write_base(char out[DIGITS_BYTES], jinja_int v, uint32_t base, bool upper) {
    const char *digits = upper ? "0123456789ABCDEF" : "0123456789abcdef";
    jinja_uint u = v < 0 ? -(jinja_uint)v : (jinja_uint)v;
    char reversed[DIGITS_BYTES];
    size_t n = 0;
    do reversed[n++] = digits[(size_t)(u % base)];
    while ((u /= base) != 0);
    for (size_t i = 0; i < n; i++) out[i] = reversed[n - 1 - i];
    out[n] = '\0';
    return n;
}

static status put_int(jinja_run *r, const format_spec *s, jinja_int v) {
    char text[DIGITS_BYTES + PRECISION_MAX];
    uint32_t base = s->type == 'x' || s->type == 'X' ? 16
                    : s->type == 'o'                 ? 8
                    : s->type == 'b'                 ? 2
                                                     : 10;
    char digits[DIGITS_BYTES];
    size_t n = write_base(digits, v, base, s->type == 'X'), zeros = 0;
    if (s->precision > 0 && (size_t)s->precision > n) zeros = (size_t)s->precision - n;
    memset(text, '0', zeros);
    memcpy(text + zeros, digits, n + 1);
    char letter[3] = {'0', s->type, '\0'};
    str prefix = s->alternate && base != 10 ? str_of(letter) : S("");
    return put_digits(r, s, v < 0, prefix, (str){text, zeros + n});
}

/* The digits without zeros at their end, and without a point that nothing follows. */
static size_t strip_zeros(char *text) {
    char *tail = text + strcspn(text, "eE"), *end = tail;
    if (memchr(text, '.', (size_t)(tail - text)) != NULL) {
        while (end[-1] == '0') end--;
        if (end[-1] == '.') end--;
        memmove(end, tail, strlen(tail) + 1);
    }
    return strlen(text);
}

/* Significant digits: the exponent of the rounded number decides between the forms.  `bare`, a
 * precision without a type, wants a decimal behind the point and has room for one digit less. */
static size_t write_general(char *out, double v, int precision, bool alternate, bool bare) {
    int digits = precision > 0 ? precision : 1;
    (void)snprintf(out, FLOAT_BYTES, alternate ? "%#.*e" : "%.*e", digits - 1, v);
    const char *tail = strchr(out, 'e') + 1; /* sign and two or three digits */
    int exponent = 0;
    for (const char *p = tail + 1; *p != '\0'; p++) exponent = 10 * exponent + (*p - '0');
    if (*tail == '-') exponent = -exponent;
    bool fixed = exponent >= -4 && exponent < digits - bare;
    if (fixed)
        (void)snprintf(out, FLOAT_BYTES, alternate ? "%#.*f" : "%.*f", digits - 1 - exponent, v);
    size_t n = alternate ? strlen(out) : strip_zeros(out);
    if (bare && fixed && strchr(out, '.') == NULL) n += (size_t)snprintf(out + n, 3, ".0");
    return n;
}

/* As repr() has it; an alternate form has a point. */
static size_t write_shortest(char *out, double v, bool alternate) {
    size_t n = jinja_write_float(out, v), digits = strcspn(out, "e");
    if (!alternate || memchr(out, '.', digits) != NULL) return n;
    memmove(out + digits + 1, out + digits, n + 1 - digits);
    out[digits] = '.';
    return n + 1;
}

/* A number that is neither infinite nor negative. */
static size_t write_finite(char *out, const format_spec *s, char type, double v) {
    int precision = (int)(s->precision >= 0 ? s->precision : 6);
    char fmt[8];
    size_t n = 0;
    switch (type) {
    case '\0':
        return s->precision < 0 ? write_shortest(out, v, s->alternate)
                                : write_general(out, v, precision, s->alternate, true);
    case 'g':
    case 'G':
    case 'n':
        n = write_general(out, v, precision, s->alternate, false);
        for (size_t i = 0; i < n && type == 'G'; i++) out[i] = (char)toupper((unsigned char)out[i]);
        return n;
    default:
        (void)snprintf(fmt, sizeof fmt, "%%%s.*%c", s->alternate ? "#" : "", type);
        return (size_t)snprintf(out, FLOAT_BYTES, fmt, precision, v);
    }
}

static status put_float(jinja_run *r, const format_spec *s, double v) {
    char text[FLOAT_BYTES];
    double size = fabs(v);
    char type = (char)(s->type == '%' ? 'f' : s->type);
    size_t n = 0;
    if (s->type == '%') size *= 100;
    if (!isfinite(v)) {
        n = (size_t)snprintf(text, sizeof text, "%s", isnan(v) ? "nan" : "inf");
        for (size_t i = 0; i < n && type != '\0' && isupper((unsigned char)type); i++)
            text[i] = (char)toupper((unsigned char)text[i]);
    } else {
        n = write_finite(text, s, type, size);
    }
    if (s->type == '%') text[n++] = '%';
    text[n] = '\0';
    format_spec spec = *s;
    if (!isfinite(v) && spec.align == '=' && spec.fill == '0') spec.fill = ' ';
    return put_digits(r, &spec, !isnan(v) && signbit(v) != 0, S(""), (str){text, n});
}

/* --- % -------------------------------------------------------------------------------- */

typedef struct percent {
    str format;
    size_t at;
    const jinja_value *values; /* what stands behind the % */
    size_t used;               /* of a tuple; of another value 0 or 1 */
} percent;

static status percent_next(jinja_run *r, percent *p, jinja_value *out) {
    bool tuple = p->values->kind == JINJA_TUPLE;
    size_t count = tuple ? p->values->as.list->count : 1;
    if (p->used == count) return jinja_fail(r, "not enough arguments for format string");
    *out = tuple ? p->values->as.list->items[p->used] : *p->values;
    p->used++;
    return OK;
}

static char peek(const percent *p) {
    return (char)(p->at < p->format.n ? p->format.p[p->at] : '\0');
}

/* "(name)": the member of the mapping. */
static status percent_name(jinja_run *r, percent *p, bool *named, jinja_value *out) {
    *named = peek(p) == '(';
    if (!*named) return OK;
    size_t from = ++p->at;
    uint32_t depth = 1;
    while (p->at < p->format.n && depth != 0) {
        depth += p->format.p[p->at] == '(';
        depth -= p->format.p[p->at] == ')';
        p->at++;
    }
    if (depth != 0) return jinja_fail(r, "incomplete format key");
    if (p->values->kind != JINJA_DICT) return jinja_fail(r, "format requires a mapping");
    jinja_value key = jinja_text((str){p->format.p + from, p->at - 1 - from}), *found = NULL;
    TRY(jinja_dict_get(r, p->values->as.dict, &key, &found));
    if (found == NULL) return jinja_fail(r, "KeyError: '%.*s'", STR(key.as.s));
    *out = *found;
    return OK;
}

/* A number, or * for an argument; -1 when there is none. */
static status percent_number(jinja_run *r, percent *p, int64_t max, int64_t *out) {
    *out = -1;
    if (peek(p) == '*') {
        jinja_value v = {.kind = JINJA_MISSING};
        p->at++;
        TRY(percent_next(r, p, &v));
        if (!jinja_is_int(&v)) return jinja_fail(r, "* wants int");
        TRY(jinja_int_arg(r, &v, out));
    }
    for (; isdigit((unsigned char)peek(p)); p->at++)
        if (*out <= max) *out = (*out < 0 ? 0 : *out) * 10 + (peek(p) - '0');
    if (*out > max || *out < -max)
        return jinja_fail(r, "format width or precision of %" PRId64 ", at most %" PRId64, *out,
                          max);
    return OK;
}

static status percent_spec(jinja_run *r, percent *p, format_spec *s) {
    *s = (format_spec){.fill = ' ', .sign = '-', .precision = -1};
    for (const char *f; (f = peek(p) != '\0' ? strchr("-+ #0", peek(p)) : NULL) != NULL; p->at++) {
        if (*f == '-') s->align = '<';
        if (*f == '+' || (*f == ' ' && s->sign != '+')) s->sign = *f;
        if (*f == '#') s->alternate = true;
        if (*f == '0') s->zero = true;
    }
    TRY(percent_number(r, p, WIDTH_MAX, &s->width));
    if (s->width < -1) { /* a negative * aligns left */
        s->align = '<';
        s->width = -s->width;
    }
    if (peek(p) == '.') {
        p->at++;
        TRY(percent_number(r, p, PRECISION_MAX, &s->precision));
        if (s->precision < 0) s->precision = 0;
    }
    while (peek(p) == 'h' || peek(p) == 'l' || peek(p) == 'L') p->at++;
    s->type = peek(p);
    if (s->type == '\0') return jinja_fail(r, "incomplete format");
    p->at++;
    return OK;
}

static status percent_integer(jinja_run *r, format_spec *s, const jinja_value *v) {
    jinja_int i = 0;
    bool decimal = s->type == 'd' || s->type == 'i' || s->type == 'u';
    if (jinja_is_int(v))
        i = jinja_int_of(v);
    else if (!decimal || v->kind != JINJA_FLOAT || !jinja_float_to_int(v->as.f, &i))
        return jinja_fail(r, "%%%c format: %s is required, not %s", s->type,
                          decimal ? "a real number" : "an integer", jinja_kind_name(v->kind));
    if (decimal) s->type = 'd';
    return put_int(r, s, i);
}

static status percent_char(jinja_run *r, format_spec *s, const jinja_value *v) {
    char bytes[JINJA_CHAR_BYTES];
    str text = v->kind == JINJA_STR ? v->as.s : S("");
    jinja_int i = jinja_is_int(v) ? jinja_int_of(v) : -1;
    bool scalar = i >= 0 && i <= 0x10FFFF && (i < 0xD800 || i > 0xDFFF);
    if (scalar) text = (str){bytes, jinja_char_put(bytes, (uint32_t)i)};
    if (!scalar && jinja_char_count(text) != 1) return jinja_fail(r, "%%c requires int or char");
    s->precision = -1;
    return put_text(r, s, '>', text);
}

static status percent_string(jinja_run *r, const format_spec *s, const jinja_value *v) {
    jinja_value text = {.kind = JINJA_MISSING};
    size_t begin = jinja_text_begin(r);
    TRY(s->type == 's' ? jinja_put_str(r, v) : jinja_put_repr(r, v));
    TRY(jinja_text_take(r, begin, &text));
    return put_text(r, s, '>', text.as.s);
}

static status percent_convert(jinja_run *r, format_spec *s, const jinja_value *v) {
    bool number = strchr("diuoxXeEfFgG", s->type) != NULL;
    if (s->zero && number && s->align == '\0') {
        s->fill = '0';
        s->align = '=';
    }
    if (v->kind == JINJA_UNDEFINED && number) return jinja_fail_undefined(r, v);
    if (strchr("diuoxX", s->type) != NULL) return percent_integer(r, s, v);
    if (s->type == 'c') return percent_char(r, s, v);
    if (s->type == 's' || s->type == 'r' || s->type == 'a') return percent_string(r, s, v);
    if (!number) return jinja_fail(r, "unsupported format character '%c'", s->type);
    if (!jinja_is_number(v))
        return jinja_fail(r, "must be real number, not %s", jinja_kind_name(v->kind));
    return put_float(r, s, jinja_float_of(v));
}

static status percent_field(jinja_run *r, percent *p) {
    jinja_value v = {.kind = JINJA_MISSING};
    format_spec s;
    bool named = false;
    TRY(jinja_step(r, 1));
    if (peek(p) == '%') { /* with anything between the two it is a type that there is not */
        p->at++;
        jinja_text_put(r, S("%"));
        return OK;
    }
    TRY(percent_name(r, p, &named, &v));
    TRY(percent_spec(r, p, &s));
    if (!named) TRY(percent_next(r, p, &v));
    return percent_convert(r, &s, &v);
}

status jinja_percent(jinja_run *r, str format, const jinja_value *values, jinja_value *out) {
    percent p = {.format = format, .values = values};
    size_t begin = jinja_text_begin(r);
    while (p.at < format.n) {
        str rest = str_skip(format, p.at);
        const char *mark = memchr(rest.p, '%', rest.n);
        size_t n = mark != NULL ? (size_t)(mark - rest.p) : rest.n;
        jinja_text_put(r, (str){rest.p, n});
        p.at += n;
        if (mark == NULL) break;
        p.at++;
        TRY(percent_field(r, &p));
    }
    bool all = values->kind == JINJA_TUPLE
                   ? p.used == values->as.list->count
                   : p.used != 0 || values->kind == JINJA_LIST || values->kind == JINJA_DICT ||
                         values->kind == JINJA_UNDEFINED || values->kind == JINJA_RANGE;
    if (!all) return jinja_fail(r, "not all arguments converted during string formatting");
    return jinja_text_take(r, begin, out);
}

/* --- format() ------------------------------------------------------------------------- */

typedef struct formatter {
    const jinja_args *args;
    size_t automatic; /* fields without a number so far */
    bool numbered;
} formatter;

static status format_arg(jinja_run *r, formatter *f, str name, jinja_value *out) {
    uint64_t i = 0;
    bool is_number = str_to_u64(name, &i);
    if (name.n == 0) {
        if (f->numbered)
            return jinja_fail(r, "cannot switch from manual field specification to automatic");
        i = f->automatic++;
    } else if (is_number) {
        if (f->automatic != 0)
            return jinja_fail(r, "cannot switch from automatic field numbering to manual");
        f->numbered = true;
    } else {
        for (size_t k = 0; k < f->args->keywords_count; k++) {
            if (!str_eq(f->args->keywords[k].name, name)) continue;
            *out = f->args->keywords[k].value;
            return OK;
        }
        return jinja_fail(r, "KeyError: '%.*s'", STR(name));
    }
    if (i >= f->args->count) return jinja_fail(r, "Replacement index %" PRIu64 " out of range", i);
    *out = f->args->items[i];
    return OK;
}

/* name.attribute[item]... */
static status format_field(jinja_run *r, formatter *f, str field, jinja_value *out) {
    size_t n = 0;
    while (n < field.n && field.p[n] != '.' && field.p[n] != '[') n++;
    TRY(format_arg(r, f, (str){field.p, n}, out));
    while (n < field.n) {
        bool item = field.p[n] == '[';
        size_t from = ++n;
        while (n < field.n && (item ? field.p[n] != ']' : field.p[n] != '.' && field.p[n] != '['))
            n++;
        str part = {field.p + from, n - from};
        if (part.n == 0 || (item && n == field.n))
            return jinja_fail(r, "Empty attribute in format string");
        if (item) n++;
        if (item && n < field.n && field.p[n] != '.' && field.p[n] != '[')
            return jinja_fail(r, "Only '.' or '[' may follow ']' in format field specifier");
        jinja_value next, key = jinja_text(part);
        uint64_t index = 0;
        if (str_to_u64(part, &index)) key = jinja_integer((jinja_int)index);
        TRY(item ? jinja_item(r, out, &key, &next) : jinja_attribute(r, out, part, &next));
        *out = next;
    }
    return OK;
}

static bool is_align(char c) { return c == '<' || c == '>' || c == '^' || c == '='; }

static bool spec_number(str s, size_t *at, int64_t max, int64_t *out) {
    size_t from = *at;
    *out = 0;
    for (; *at < s.n && isdigit((unsigned char)s.p[*at]); (*at)++)
        if (*out <= max) *out = *out * 10 + (s.p[*at] - '0');
    return *at != from && *out <= max;
}

/* [[fill]align][sign][#][0][width][grouping][.precision][type] */
static status parse_spec(jinja_run *r, str text, format_spec *s) {
    *s = (format_spec){.fill = ' ', .precision = -1};
    size_t i = 0;
    uint32_t fill = 0;
    size_t fill_bytes = text.n != 0 ? jinja_char_get(text, &fill) : 0;
    bool filled = fill_bytes < text.n && is_align(text.p[fill_bytes]);
    if (filled) {
        s->fill = fill;
        s->align = text.p[fill_bytes];
        i = fill_bytes + 1;
    } else if (text.n != 0 && is_align(text.p[0])) {
        s->align = text.p[i++];
    }
    if (i < text.n && (text.p[i] == '+' || text.p[i] == '-' || text.p[i] == ' '))
        s->sign = text.p[i++];
    if (i < text.n && text.p[i] == '#') s->alternate = text.p[i++] == '#';
    if (i < text.n && text.p[i] == '0') {
        s->zero = true;
        if (s->align == '\0') s->align = '=';
        if (!filled) s->fill = '0';
        i++;
    }
    if (i < text.n && isdigit((unsigned char)text.p[i]) &&
        !spec_number(text, &i, WIDTH_MAX, &s->width))
        return jinja_fail(r, "format width beyond %d", WIDTH_MAX);
    if (i < text.n && (text.p[i] == ',' || text.p[i] == '_')) s->grouping = text.p[i++];
    if (i < text.n && text.p[i] == '.') {
        i++;
        if (!spec_number(text, &i, PRECISION_MAX, &s->precision))
            return jinja_fail(r, "format precision missing, or beyond %d", PRECISION_MAX);
    }
    if (i < text.n) s->type = text.p[i++];
    if (i != text.n) return jinja_fail(r, "Invalid format specifier");
    const char *grouped = s->grouping == ',' ? "defgEFG%" : "bdefgoxEFGX%";
    if (s->grouping != '\0' && s->type != '\0' && strchr(grouped, s->type) == NULL)
        return jinja_fail(r, "Cannot specify '%c' with '%c'.", s->grouping, s->type);
    return OK;
}

static status unknown_code(jinja_run *r, const format_spec *s, const jinja_value *v) {
    return jinja_fail(r, "Unknown format code '%c' for object of type '%s'", s->type,
                      jinja_kind_name(v->kind));
}

static status format_number(jinja_run *r, format_spec *s, const jinja_value *v) {
    bool is_float =
        v->kind == JINJA_FLOAT || (s->type != '\0' && strchr("eEfFgG%", s->type) != NULL);
    if (is_float) {
        if (s->type != '\0' && strchr("eEfFgGn%", s->type) == NULL) return unknown_code(r, s, v);
        return put_float(r, s, jinja_float_of(v));
    }
    if (s->type != '\0' && strchr("bcdoxXn", s->type) == NULL) return unknown_code(r, s, v);
    if (s->precision >= 0)
        return jinja_fail(r, "Precision not allowed in integer format specifier");
    if (s->type == 'c' && (s->sign != '\0' || s->alternate))
        return jinja_fail(r, "%s not allowed with integer format specifier 'c'",
                          s->sign != '\0' ? "Sign" : "Alternate form (#)");
    if (s->type == 'c') return percent_char(r, s, v);
    return put_int(r, s, jinja_int_of(v));
}

static status put_formatted(jinja_run *r, str spec, const jinja_value *v) {
    format_spec s;
    if (spec.n == 0) return jinja_put_str(r, v);
    if (v->kind == JINJA_UNDEFINED)
        return jinja_fail(r, "unsupported format string passed to Undefined.__format__");
    TRY(parse_spec(r, spec, &s));
    if (jinja_is_number(v)) return format_number(r, &s, v);
    if (v->kind != JINJA_STR)
        return jinja_fail(r, "unsupported format string passed to %s.__format__",
                          jinja_kind_name(v->kind));
    if (s.type != '\0' && s.type != 's') return unknown_code(r, &s, v);
    if (s.sign != '\0' || s.alternate)
        return jinja_fail(r, "%s not allowed in string format specifier",
                          s.sign != '\0' ? "Sign" : "Alternate form (#)");
    if (s.grouping != '\0') return jinja_fail(r, "Cannot specify '%c' with 's'.", s.grouping);
    if (s.align == '=' && !s.zero)
        return jinja_fail(r, "'=' alignment not allowed in string format specifier");
    if (s.align == '=') s.align = '<';
    return put_text(r, &s, '<', v->as.s);
}

/* The inside of {...} without the braces: field, !conversion, :spec. */
static status format_replacement(jinja_run *r, formatter *f, str inside, bool nested,
                                 jinja_value *out);

/* A spec may hold {} itself, one level deep. */
static status format_spec_text(jinja_run *r, formatter *f, str spec, str *out) {
    jinja_value text = {.kind = JINJA_MISSING};
    size_t begin = jinja_text_begin(r);
    while (spec.n != 0) {
        const char *open = memchr(spec.p, '{', spec.n);
        const char *close =
            open != NULL ? memchr(open, '}', spec.n - (size_t)(open - spec.p)) : NULL;
        if (open != NULL && close == NULL)
            return jinja_fail(r, "expected '}' before end of string");
        size_t n = open != NULL ? (size_t)(open - spec.p) : spec.n;
        jinja_text_put(r, (str){spec.p, n});
        spec = str_skip(spec, n);
        if (open == NULL) break;
        TRY(format_replacement(r, f, (str){open + 1, (size_t)(close - open) - 1}, true, &text));
        jinja_text_put(r, text.as.s);
        spec = str_skip(spec, (size_t)(close - open) + 1);
    }
    TRY(jinja_text_take(r, begin, &text));
    *out = text.as.s;
    return OK;
}

static status format_replacement(jinja_run *r, formatter *f, str inside, bool nested,
                                 jinja_value *out) {
    size_t n = 0;
    bool bracket = false;
    for (; n < inside.n && (bracket || (inside.p[n] != '!' && inside.p[n] != ':')); n++)
        bracket = inside.p[n] == '[' || (bracket && inside.p[n] != ']');
    str spec = str_skip(inside, n);
    char conversion = '\0';
    jinja_value v = {.kind = JINJA_MISSING};
    TRY(jinja_step(r, 1));
    TRY(format_field(r, f, (str){inside.p, n}, &v));
    if (spec.n != 0 && spec.p[0] == '!') {
        conversion = (char)(spec.n > 1 ? spec.p[1] : '\0');
        if (conversion == '\0' || strchr("rsa", conversion) == NULL)
            return jinja_fail(r, "unknown conversion in a format string");
        spec = str_skip(spec, 2);
    }
    if (spec.n != 0 && spec.p[0] != ':')
        return jinja_fail(r, "expected ':' after conversion specifier");
    if (spec.n != 0) spec = str_skip(spec, 1);
    if (!nested) TRY(format_spec_text(r, f, spec, &spec));
    size_t begin = jinja_text_begin(r);
    if (conversion != '\0') {
        TRY(conversion == 's' ? jinja_put_str(r, &v) : jinja_put_repr(r, &v));
        TRY(jinja_text_take(r, begin, &v));
    }
    TRY(put_formatted(r, spec, &v));
    return jinja_text_take(r, begin, out);
}

/* Bytes up to the } that closes the { before s, braces inside counted; s.n when there is none. */
static size_t closing(str s) {
    uint32_t depth = 1;
    for (size_t i = 0; i < s.n; i++) {
        depth += s.p[i] == '{';
        depth -= s.p[i] == '}';
        if (depth == 0) return i;
    }
    return s.n;
}

status jinja_format(jinja_run *r, const jinja_value *self, const jinja_args *args,
                    jinja_value *out) {
    formatter f = {.args = args};
    str s = self->as.s;
    size_t begin = jinja_text_begin(r);
    while (s.n != 0) {
        char c = s.p[0];
        bool doubled = (c == '{' || c == '}') && s.n > 1 && s.p[1] == c;
        if (c != '{' && c != '}') {
            jinja_text_put(r, (str){s.p, 1});
        } else if (doubled) {
            jinja_text_put(r, (str){s.p, 1});
            s = str_skip(s, 1);
        } else if (c == '}') {
            return jinja_fail(r, "Single '}' encountered in format string");
        } else {
            jinja_value text = {.kind = JINJA_MISSING};
            str rest = str_skip(s, 1);
            size_t n = closing(rest);
            if (n == rest.n) return jinja_fail(r, "expected '}' before end of string");
            TRY(format_replacement(r, &f, (str){rest.p, n}, false, &text));
            jinja_text_put(r, text.as.s);
            s = str_skip(s, 1 + n);
        }
        s = str_skip(s, 1);
    }
    TRY(jinja_step_bytes(r, self->as.s.n));
    return jinja_text_take(r, begin, out);
}
