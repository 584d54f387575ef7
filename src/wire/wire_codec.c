/* wire_codec.c - see wire_internal.h. */
#include <stdarg.h>
#include <stdio.h>

#include "wire/wire_internal.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "frames are written as the host has them");

void codec_bad(codec *c, const char *fmt, ...) {
    if (c->st != OK) return;
    char msg[160];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    c->st = error_set(c->err, ERR_FORMAT, "wire: %s", msg);
}

void codec_bytes(codec *c, void *p, size_t n, const char *name) {
    if (!codec_is_reading(c)) {
        buf_put(c->out, p, n);
    } else if (c->in.n < n) {
        codec_bad(c, "%s needs %zu bytes, frame has %zu left", name, n, c->in.n);
    } else if (c->st == OK) {
        memcpy(p, c->in.p, n);
        c->in = str_skip(c->in, n);
    }
}

void codec_bool(codec *c, bool *v, const char *name) {
    uint8_t byte = *v;
    codec_bytes(c, &byte, 1, name);
    if (byte > 1) codec_bad(c, "%s is %u, neither 0 nor 1", name, byte);
    *v = byte == 1;
}

void codec_f32(codec *c, float *v, float lo, float hi, const char *name) {
    codec_bytes(c, v, sizeof *v, name);
    if (!(*v >= lo && *v <= hi)) codec_bad(c, "%s is %g, want %g to %g", name, *v, lo, hi);
}

void codec_str(codec *c, str *s, size_t bytes_max, const char *name) {
    uint32_t n = (uint32_t)s->n;
    if (!codec_is_reading(c) && s->n > WIRE_FRAME_BYTES_MAX)
        c->out->failed = true; /* the other side would refuse */
    codec_bytes(c, &n, sizeof n, name);
    if (!codec_is_reading(c)) {
        buf_put_str(c->out, *s);
    } else if (n > bytes_max) {
        codec_bad(c, "%s has %u bytes, at most %zu", name, n, bytes_max);
    } else if (n > c->in.n) {
        codec_bad(c, "%s has %u bytes, frame has %zu left", name, n, c->in.n);
    } else if (c->st == OK) {
        *s = (str){c->in.p, n};
        c->in = str_skip(c->in, n);
    }
}

void codec_chars(codec *c, char *text, size_t bytes, const char *name) {
    codec_bytes(c, text, bytes, name);
    if (c->st == OK && memchr(text, 0, bytes) == NULL) codec_bad(c, "%s is not terminated", name);
    if (codec_is_reading(c) && c->st != OK) text[0] = '\0';
}

void codec_array(codec *c, wire_array *a, size_t elem_bytes, uint32_t count_max, const char *name) {
    codec_bytes(c, &a->count, sizeof a->count, name);
    size_t bytes = (size_t)a->count * elem_bytes;
    if (!codec_is_reading(c)) {
        buf_put(c->out, a->p, bytes);
    } else if (c->st == OK && a->count > count_max) {
        codec_bad(c, "%s has %u elements, at most %u", name, a->count, count_max);
    } else if (c->st == OK && bytes > c->in.n) {
        codec_bad(c, "%s needs %zu bytes, frame has %zu left", name, bytes, c->in.n);
    } else if (c->st == OK) {
        a->p = c->in.p;
        c->in = str_skip(c->in, bytes);
    }
    if (codec_is_reading(c) && c->st != OK) *a = (wire_array){0};
}
