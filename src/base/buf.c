/* buf.c - see buf.h. */
#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/num.h"

void buf_init(buf *b, size_t bytes_max) { *b = (buf){.bytes_max = bytes_max}; }

void buf_deinit(buf *b) {
    mem_free(b->p);
    *b = (buf){0};
}

void *buf_reserve(buf *b, size_t n) {
    size_t need = 0;
    if (b->failed) return NULL;
    if (!num_add_size(&need, b->n, n) || need > b->bytes_max) {
        b->failed = true;
        return NULL;
    }
    if (need > b->cap) {
        size_t cap = b->cap < 64 ? 64 : b->cap;
        while (cap < need) cap = cap < b->bytes_max / 2 ? cap + cap / 2 + 1 : b->bytes_max;
        cap = num_min_size(cap, b->bytes_max);
        char *p = mem_try_realloc(b->p, cap);
        if (p == NULL) {
            b->failed = b->no_memory = true;
            return NULL;
        }
        b->p = p;
        b->cap = cap;
    }
    return b->p + b->n;
}

void buf_put(buf *b, const void *bytes, size_t n) {
    if (n == 0) return;
    void *at = buf_reserve(b, n);
    if (at == NULL) return;
    memcpy(at, bytes, n);
    b->n += n;
}

void buf_put_str(buf *b, str s) { buf_put(b, s.p, s.n); }

void buf_put_char(buf *b, char c) { buf_put(b, &c, 1); }

void buf_printf(buf *b, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    int want = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    ASSERT(want >= 0);
    size_t bytes_max = b->bytes_max;
    if (bytes_max < SIZE_MAX) b->bytes_max++; /* the terminator is written, but not kept */
    char *at = buf_reserve(b, (size_t)want + 1);
    b->bytes_max = bytes_max;
    if (at == NULL) return;
    va_start(ap, fmt);
    (void)vsnprintf(at, (size_t)want + 1, fmt, ap);
    va_end(ap);
    b->n += (size_t)want;
}

void buf_clear(buf *b) {
    b->n = 0;
    b->failed = b->no_memory = false;
}

void buf_trim(buf *b, size_t keep_bytes) {
    if (b->n > 0 || b->cap <= keep_bytes) return;
    size_t bytes_max = b->bytes_max;
    buf_deinit(b);
    buf_init(b, bytes_max);
}

void buf_drop_front(buf *b, size_t n) {
    ASSERT(n <= b->n);
    if (n == 0) return;
    memmove(b->p, b->p + n, b->n - n);
    b->n -= n;
}

status buf_status(const buf *b, const char *what, error *err) {
    if (!b->failed) return OK;
    if (b->no_memory)
        return error_set(err, ERR_NOMEM, "%s: no memory beyond %zu bytes", what, b->cap);
    return error_set(err, ERR_LIMIT, "%s: needs more than the %zu bytes it may have", what,
                     b->bytes_max);
}
