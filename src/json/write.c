/* write.c - see write.h. */
#include "json/write.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

void json_writer_init(json_writer *w, buf *out) { *w = (json_writer){.out = out}; }

bool json_writer_is_done(const json_writer *w) { return w->depth == 0 && !w->keyed; }

/* --- structure ------------------------------------------------------------------- */

static bool in_object(const json_writer *w) {
    return w->depth != 0 && (w->is_object[(w->depth - 1) / 8] >> ((w->depth - 1) % 8) & 1) != 0;
}

/* A value comes now: every one passes here first. */
static void before_value(json_writer *w) {
    ASSERT(in_object(w) == w->keyed);
    if (w->comma && !w->keyed) buf_put_char(w->out, ',');
    w->keyed = false;
    w->comma = w->depth != 0; /* at the top, values stand alone */
}

static void begin(json_writer *w, bool object) {
    ASSERT(w->depth < JSON_WRITE_DEPTH_MAX);
    before_value(w);
    uint8_t bit = (uint8_t)(1u << (w->depth % 8));
    uint8_t *byte = &w->is_object[w->depth / 8];
    *byte = (uint8_t)(object ? *byte | bit : *byte & ~bit);
    w->depth++;
    w->comma = false;
    buf_put_char(w->out, object ? '{' : '[');
}

static void end(json_writer *w, bool object) {
    ASSERT(w->depth != 0 && in_object(w) == object && !w->keyed);
    w->depth--;
    w->comma = w->depth != 0;
    buf_put_char(w->out, object ? '}' : ']');
}

void json_begin_object(json_writer *w) { begin(w, true); }
void json_end_object(json_writer *w) { end(w, true); }
void json_begin_array(json_writer *w) { begin(w, false); }
void json_end_array(json_writer *w) { end(w, false); }

/* --- strings --------------------------------------------------------------------- */

/* Bytes of the longest start of a UTF-8 sequence at p, at least 1; *whole says whether it
 * is a complete sequence.  What is not is replaced as one, which is how decoders are advised
 * to count replacement characters.  Source: Unicode 15, table 3-7 and section 3.9, "U+FFFD
 * substitution of maximal subparts". */
static size_t utf8_step(const unsigned char *p, size_t n, bool *whole) {
    unsigned char lead = p[0];
    unsigned char low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
    unsigned char high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
    size_t want = lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    if ((lead >= 0x80 && lead < 0xC2) || lead > 0xF4) {
        *whole = false;
        return 1;
    }
    size_t got = 1;
    while (got < want && got < n && p[got] >= low && p[got] <= high) {
        low = 0x80; /* only the byte after the lead has a range of its own */
        high = 0xBF;
        got++;
    }
    *whole = got == want;
    return got;
}

static void put_escape(buf *out, unsigned char c) {
    switch (c) {
    case '"':
        buf_put_str(out, S("\\\""));
        return;
    case '\\':
        buf_put_str(out, S("\\\\"));
        return;
    case '\n':
        buf_put_str(out, S("\\n"));
        return;
    case '\r':
        buf_put_str(out, S("\\r"));
        return;
    case '\t':
        buf_put_str(out, S("\\t"));
        return;
    case '\b':
        buf_put_str(out, S("\\b"));
        return;
    case '\f':
        buf_put_str(out, S("\\f"));
        return;
    default:
        buf_printf(out, "\\u%04x", c);
    }
}

static bool must_escape(unsigned char c) { return c < 0x20 || c == '"' || c == '\\'; }

static void put_string(buf *out, str s) {
    const unsigned char *p = (const unsigned char *)s.p;
    size_t done = 0; /* bytes before this are written */
    buf_put_char(out, '"');
    for (size_t i = 0; i < s.n;) {
        bool whole = true;
        size_t step = p[i] < 0x80 ? 1 : utf8_step(p + i, s.n - i, &whole);
        if (whole && !must_escape(p[i])) {
            i += step;
            continue;
        }
        buf_put(out, p + done, i - done);
        if (whole)
            put_escape(out, p[i]);
        else
            buf_put_str(out, S("\xEF\xBF\xBD")); /* U+FFFD */
        i += step;
        done = i;
    }
    if (done < s.n) buf_put(out, p + done, s.n - done);
    buf_put_char(out, '"');
}

void json_key(json_writer *w, str key) {
    ASSERT(in_object(w) && !w->keyed);
    if (w->comma) buf_put_char(w->out, ',');
    put_string(w->out, key);
    buf_put_char(w->out, ':');
    w->keyed = true;
}

void json_str(json_writer *w, str s) {
    before_value(w);
    put_string(w->out, s);
}

/* --- other values ---------------------------------------------------------------- */

void json_raw(json_writer *w, str valid_json) {
    ASSERT(valid_json.n != 0);
    before_value(w);
    buf_put_str(w->out, valid_json);
}

void json_bool(json_writer *w, bool b) { json_raw(w, b ? S("true") : S("false")); }

void json_put_null(json_writer *w) { json_raw(w, S("null")); }

void json_int(json_writer *w, int64_t v) {
    before_value(w);
    buf_printf(w->out, "%" PRId64, v);
}

void json_uint(json_writer *w, uint64_t v) {
    before_value(w);
    buf_printf(w->out, "%" PRIu64, v);
}

/* DBL_DIG digits survive text -> double -> text, so 0.7 is found with 15; 17 always
 * survive double -> text -> double.  The same for float with 6 and 9. */
size_t json_format_f64(char out[JSON_NUMBER_BYTES], double v) {
    int n = 0;
    for (int digits = 15; digits <= 17; digits++) {
        n = snprintf(out, JSON_NUMBER_BYTES, "%.*g", digits, v);
        if (strtod(out, NULL) == v) break;
    }
    ASSERT(n > 0 && n < JSON_NUMBER_BYTES);
    return (size_t)n;
}

size_t json_format_f32(char out[JSON_NUMBER_BYTES], float v) {
    int n = 0;
    for (int digits = 6; digits <= 9; digits++) {
        n = snprintf(out, JSON_NUMBER_BYTES, "%.*g", digits, (double)v);
        if (strtof(out, NULL) == v) break;
    }
    ASSERT(n > 0 && n < JSON_NUMBER_BYTES);
    return (size_t)n;
}

void json_f64(json_writer *w, double v) {
    char text[JSON_NUMBER_BYTES];
    json_raw(w, isfinite(v) ? (str){text, json_format_f64(text, v)} : S("null"));
}

void json_f32(json_writer *w, float v) {
    char text[JSON_NUMBER_BYTES];
    json_raw(w, isfinite(v) ? (str){text, json_format_f32(text, v)} : S("null"));
}

/* --- key and value --------------------------------------------------------------- */

void json_kv_str(json_writer *w, const char *key, str s) {
    json_key(w, str_of(key));
    json_str(w, s);
}

void json_kv_bool(json_writer *w, const char *key, bool b) {
    json_key(w, str_of(key));
    json_bool(w, b);
}

void json_kv_null(json_writer *w, const char *key) {
    json_key(w, str_of(key));
    json_put_null(w);
}

void json_kv_int(json_writer *w, const char *key, int64_t v) {
    json_key(w, str_of(key));
    json_int(w, v);
}

void json_kv_uint(json_writer *w, const char *key, uint64_t v) {
    json_key(w, str_of(key));
    json_uint(w, v);
}

void json_kv_f64(json_writer *w, const char *key, double v) {
    json_key(w, str_of(key));
    json_f64(w, v);
}

void json_kv_f32(json_writer *w, const char *key, float v) {
    json_key(w, str_of(key));
    json_f32(w, v);
}

void json_kv_raw(json_writer *w, const char *key, str valid_json) {
    json_key(w, str_of(key));
    json_raw(w, valid_json);
}

void json_kv_object(json_writer *w, const char *key) {
    json_key(w, str_of(key));
    json_begin_object(w);
}

void json_kv_array(json_writer *w, const char *key) {
    json_key(w, str_of(key));
    json_begin_array(w);
}
