/* buf.h - a growable run of bytes with a limit.
 *
 * Appends never fail half way: on exhaustion or at the limit the buffer keeps what
 * it had and turns `failed` on; later appends are ignored.  Check once at the end
 * (buf_status).  Owner: whoever holds the struct; buf_deinit() frees. */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/str.h"

typedef struct buf {
    char *p; /* owned */
    size_t n;
    size_t cap;
    size_t bytes_max; /* limit on n */
    bool failed;
    bool no_memory; /* why it failed: else the limit was reached */
} buf;

void buf_init(buf *b, size_t bytes_max);
void buf_deinit(buf *b);

void buf_put(buf *b, const void *bytes, size_t n);
void buf_put_str(buf *b, str s);
void buf_put_char(buf *b, char c);
__attribute__((format(printf, 2, 3))) void buf_printf(buf *b, const char *fmt, ...);

/* Room for n more bytes at the end, not yet counted; NULL when it cannot be had. */
void *buf_reserve(buf *b, size_t n);

/* Forget the content, keep the memory. */
void buf_clear(buf *b);

/* Drop the first n bytes; n <= b->n. */
void buf_drop_front(buf *b, size_t n);

/* Give the memory back if it is empty and holds more than keep_bytes. */
void buf_trim(buf *b, size_t keep_bytes);

/* OK; ERR_LIMIT when something did not fit, ERR_NOMEM when there was no memory for it. */
NODISCARD status buf_status(const buf *b, const char *what, error *err);

static inline str buf_view(const buf *b) { return (str){b->p != NULL ? b->p : "", b->n}; }

#endif
