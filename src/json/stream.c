/* stream.c - see stream.h.  Source: RFC 8259; surrogate pairs in section 7. */
#include "json/stream.h"

#include "base/assert.h"

/* What may come next. */
enum {
    STATE_VALUE,       /* behind ':' or ',' and at the start */
    STATE_FIRST_VALUE, /* behind '[': a value or its end */
    STATE_FIRST_KEY,   /* behind '{': a key or its end */
    STATE_AFTER,       /* behind a value: ',' or the end of what it is in */
};

const char *json_token_name(json_token t) {
    static const char *const names[] = {
#define JSON_TOKEN_NAME(name, text) text,
        JSON_TOKENS(JSON_TOKEN_NAME)
#undef JSON_TOKEN_NAME
    };
    return names[t];
}

void json_stream_init(json_stream *s, str text, const char *name) {
    *s = (json_stream){.text = text, .name = name, .state = STATE_VALUE};
}

static status wrong(const json_stream *s, size_t at, const char *what, error *err) {
    return error_set(err, ERR_FORMAT, "%s: byte %zu: %s", s->name, at, what);
}

/* --- what we are in -------------------------------------------------------------- */
static bool in_object(const json_stream *s) {
    uint32_t level = s->depth - 1;
    return s->depth > 0 && (s->objects[level / 64] >> (level % 64) & 1) != 0;
}

static status enter(json_stream *s, bool object, error *err) {
    if (s->depth == JSON_STREAM_DEPTH_MAX)
        return error_set(err, ERR_LIMIT, "%s: byte %zu: nested deeper than %d", s->name, s->at,
                         JSON_STREAM_DEPTH_MAX);
    uint64_t bit = UINT64_C(1) << (s->depth % 64);
    uint64_t *word = &s->objects[s->depth / 64];
    *word = object ? *word | bit : *word & ~bit;
    s->depth++;
    s->at++;
    s->state = object ? STATE_FIRST_KEY : STATE_FIRST_VALUE;
    return OK;
}

static void leave(json_stream *s) {
    s->depth--;
    s->at++;
    s->state = STATE_AFTER;
}

/* --- scalars --------------------------------------------------------------------- */
static void skip_blanks(json_stream *s) {
    while (s->at < s->text.n) {
        char c = s->text.p[s->at];
        if (c != ' ' && c != '\n' && c != '\r' && c != '\t') return;
        s->at++;
    }
}

/* The number of four hexadecimal digits, -1 when they are not that. */
static int32_t hex4(const char *p, size_t n) {
    int32_t value = 0;
    if (n < 4) return -1;
    for (size_t i = 0; i < 4; i++) {
        char c = p[i];
        int32_t digit = c >= '0' && c <= '9'   ? c - '0'
                        : c >= 'a' && c <= 'f' ? c - 'a' + 10
                        : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                               : -1;
        if (digit < 0) return -1;
        value = value * 16 + digit;
    }
    return value;
}

static bool is_high(int32_t unit) { return unit >= 0xD800 && unit < 0xDC00; }
static bool is_low(int32_t unit) { return unit >= 0xDC00 && unit < 0xE000; }

/* Bytes of the escape at p, which is a backslash; 0 when it is none. */
static size_t escape_bytes(const char *p, size_t n) {
    if (n < 2) return 0;
    if (p[1] != 'u') return p[1] != '\0' && strchr("\"\\/bfnrt", p[1]) != NULL ? 2 : 0;
    int32_t unit = hex4(p + 2, n - 2);
    if (unit < 0 || is_low(unit)) return 0;
    if (!is_high(unit)) return 6;
    bool paired = n >= 12 && p[6] == '\\' && p[7] == 'u' && is_low(hex4(p + 8, n - 8));
    return paired ? 12 : 0;
}

/* s->at is at the opening quote. */
static status read_string(json_stream *s, error *err) {
    const char *p = s->text.p;
    size_t begin = s->at + 1, i = begin;
    bool escaped = false, ascii = true;
    while (i < s->text.n && p[i] != '"') {
        if ((unsigned char)p[i] < 0x20) return wrong(s, i, "control character in a string", err);
        size_t step = p[i] == '\\' ? escape_bytes(p + i, s->text.n - i) : 1;
        if (step == 0) return wrong(s, i, "no valid escape", err);
        escaped |= p[i] == '\\';
        ascii &= (unsigned char)p[i] < 0x80;
        i += step;
    }
    if (i == s->text.n) return wrong(s, s->at, "string does not end", err);
    str raw = {p + begin, i - begin};
    if (!ascii && !str_is_utf8(raw)) return wrong(s, s->at, "string is not UTF-8", err);
    s->raw = raw;
    s->escaped = escaped;
    s->at = i + 1;
    return OK;
}

static size_t digits(str t, size_t i) {
    size_t begin = i;
    while (i < t.n && t.p[i] >= '0' && t.p[i] <= '9') i++;
    return i - begin;
}

/* Bytes of the number that `t` begins with, 0 when it begins with none. */
static size_t number_bytes(str t) {
    size_t i = t.p[0] == '-' ? 1 : 0;
    size_t whole = digits(t, i);
    if (whole == 0 || (whole > 1 && t.p[i] == '0')) return 0;
    i += whole;
    if (i < t.n && t.p[i] == '.') {
        size_t fraction = digits(t, i + 1);
        if (fraction == 0) return 0;
        i += 1 + fraction;
    }
    if (i < t.n && (t.p[i] == 'e' || t.p[i] == 'E')) {
        i++;
        if (i < t.n && (t.p[i] == '+' || t.p[i] == '-')) i++;
        size_t exponent = digits(t, i);
        if (exponent == 0) return 0;
        i += exponent;
    }
    return i;
}

/* true, false, null or a number. */
static status read_plain(json_stream *s, json_token *out, error *err) {
    static const struct {
        str text;
        json_token token;
    } words[] = {
        {S("true"), JSON_TOKEN_TRUE}, {S("false"), JSON_TOKEN_FALSE}, {S("null"), JSON_TOKEN_NULL}};
    str rest = str_skip(s->text, s->at);
    size_t n = 0;
    json_token token = JSON_TOKEN_NUMBER;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (!str_starts(rest, words[i].text)) continue;
        n = words[i].text.n;
        token = words[i].token;
    }
    if (n == 0) n = number_bytes(rest);
    if (n == 0) return wrong(s, s->at, "no value", err);
    s->raw = (str){rest.p, n};
    s->at += n;
    s->state = STATE_AFTER;
    *out = token;
    return OK;
}

/* --- tokens ---------------------------------------------------------------------- */
static status read_value(json_stream *s, char c, json_token *out, error *err) {
    if (c == '{' || c == '[') {
        *out = c == '{' ? JSON_TOKEN_OBJECT_BEGIN : JSON_TOKEN_ARRAY_BEGIN;
        return enter(s, c == '{', err);
    }
    if (c != '"') return read_plain(s, out, err);
    TRY(read_string(s, err));
    s->state = STATE_AFTER;
    *out = JSON_TOKEN_STRING;
    return OK;
}

static status read_key(json_stream *s, char c, json_token *out, error *err) {
    if (c != '"') return wrong(s, s->at, "want a key", err);
    size_t begin = s->at;
    TRY(read_string(s, err));
    skip_blanks(s);
    if (s->at == s->text.n || s->text.p[s->at] != ':') {
        size_t at = s->at;
        s->at = begin;
        return wrong(s, at, "want ':'", err);
    }
    s->at++;
    s->state = STATE_VALUE;
    *out = JSON_TOKEN_KEY;
    return OK;
}

/* The end of an object or array, or a comma and what comes next. */
static status read_after(json_stream *s, char c, json_token *out, error *err) {
    bool object = in_object(s);
    if (c == (object ? '}' : ']')) {
        leave(s);
        *out = object ? JSON_TOKEN_OBJECT_END : JSON_TOKEN_ARRAY_END;
        return OK;
    }
    if (c != ',') return wrong(s, s->at, object ? "want ',' or '}'" : "want ',' or ']'", err);
    size_t begin = s->at++;
    skip_blanks(s);
    s->raw_at = s->at;
    status st = OK;
    if (s->at == s->text.n)
        st = wrong(s, s->at, "the text ends behind a ','", err);
    else
        st = object ? read_key(s, s->text.p[s->at], out, err)
                    : read_value(s, s->text.p[s->at], out, err);
    if (st != OK) s->at = begin;
    return st;
}

status json_stream_next(json_stream *s, json_token *out, error *err) {
    skip_blanks(s);
    s->raw_at = s->at;
    bool at_end = s->at == s->text.n;
    if (s->state == STATE_AFTER && s->depth == 0) {
        if (!at_end) return wrong(s, s->at, "text behind the document", err);
        *out = JSON_TOKEN_END;
        return OK;
    }
    if (at_end) return wrong(s, s->at, "the text ends in the middle", err);
    char c = s->text.p[s->at];
    if (s->state == STATE_AFTER) return read_after(s, c, out, err);
    if (s->state == STATE_FIRST_KEY && c != '}') return read_key(s, c, out, err);
    if (s->state == STATE_FIRST_KEY || (s->state == STATE_FIRST_VALUE && c == ']')) {
        *out = c == '}' ? JSON_TOKEN_OBJECT_END : JSON_TOKEN_ARRAY_END;
        leave(s);
        return OK;
    }
    return read_value(s, c, out, err);
}

status json_stream_want(json_stream *s, json_token want, error *err) {
    json_token found = JSON_TOKEN_END;
    TRY(json_stream_next(s, &found, err));
    if (found == want) return OK;
    return error_set(err, ERR_FORMAT, "%s: byte %zu: want %s, found %s", s->name, s->raw_at,
                     json_token_name(want), json_token_name(found));
}

status json_stream_skip(json_stream *s, str *raw, error *err) {
    uint32_t depth = s->depth;
    json_token token = JSON_TOKEN_END;
    TRY(json_stream_next(s, &token, err));
    size_t begin = s->raw_at;
    ASSERT(token != JSON_TOKEN_KEY && token != JSON_TOKEN_END && s->depth >= depth);
    while (s->depth > depth) TRY(json_stream_next(s, &token, err));
    *raw = (str){s->text.p + begin, s->at - begin};
    return OK;
}

/* --- text ------------------------------------------------------------------------ */
static size_t put_utf8(char *out, uint32_t c) {
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    static const unsigned char marks[] = {0, 0, 0xC0, 0xE0, 0xF0};
    for (size_t i = n - 1; i > 0; i--) {
        out[i] = (char)(0x80 | (c & 0x3F));
        c >>= 6;
    }
    out[0] = (char)(marks[n] | c);
    return n;
}

/* The character of the escape at p, which read_string() has checked. */
static uint32_t escape_value(const char *p) {
    switch (p[1]) {
    case 'b':
        return '\b';
    case 'f':
        return '\f';
    case 'n':
        return '\n';
    case 'r':
        return '\r';
    case 't':
        return '\t';
    case 'u':
        break;
    default:
        return (unsigned char)p[1];
    }
    int32_t unit = hex4(p + 2, 4);
    if (!is_high(unit)) return (uint32_t)unit;
    return 0x10000 + (((uint32_t)unit - 0xD800) << 10) + ((uint32_t)hex4(p + 8, 4) - 0xDC00);
}

size_t json_stream_text(const json_stream *s, char *out) {
    size_t n = 0;
    for (size_t i = 0; i < s->raw.n;) {
        const char *p = s->raw.p + i;
        if (*p != '\\') {
            out[n++] = *p;
            i++;
            continue;
        }
        n += put_utf8(out + n, escape_value(p));
        i += escape_bytes(p, s->raw.n - i);
    }
    return n;
}
