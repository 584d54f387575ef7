/* link.c - see link.h. */
#include "wire/link.h"

#include "base/assert.h"
#include "wire/wire.h"

status link_open(wire_link *l, size_t down_bytes, size_t up_bytes, error *err) {
    *l = (wire_link){0};
    TRY(ring_create(&l->down, down_bytes, err));
    status st = ring_create(&l->up, up_bytes, err);
    if (st != OK) link_close(l);
    return st;
}

void link_close(wire_link *l) {
    ring_destroy(l->down);
    ring_destroy(l->up);
    *l = (wire_link){0};
}

bool link_flush(ring *to, buf *out) {
    size_t at = 0;
    while (at < out->n) {
        uint32_t body = 0;
        ASSERT(out->n - at >= WIRE_HEADER_BYTES);
        memcpy(&body, out->p + at, sizeof body);
        ASSERT(out->n - at - WIRE_HEADER_BYTES >= body);
        ASSERT(body <= ring_frame_bytes_max(to) - WIRE_HEADER_BYTES); /* or it would wait forever */
        if (!ring_send(to, out->p + at, body + WIRE_HEADER_BYTES)) break;
        at += (size_t)body + WIRE_HEADER_BYTES;
    }
    buf_drop_front(out, at);
    return out->n == 0;
}

status link_recv(ring *from, buf *in, bool *got, error *err) {
    uint32_t bytes = ring_next_bytes(from);
    *got = bytes != 0;
    if (!*got) return OK;
    buf_clear(in);
    void *at = buf_reserve(in, bytes);
    if (at == NULL) {
        ring_drop(from);
        return buf_status(in, "wire: frame", err);
    }
    ring_recv(from, at);
    in->n = bytes;
    return OK;
}
