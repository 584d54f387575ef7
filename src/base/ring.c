/* ring.c - see ring.h.
 *
 *   head ──▶ [len|frame][len|frame]...  ◀── tail      byte positions grow until the ring
 *                                                     is empty; index = position % cap
 *
 * Ordering: every position and byte is read and written under the mutex, so the memory
 * of a frame happens-before its receiver.  The eventfds only carry "look again". */
#include "base/ring.h"

#include <pthread.h>
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/num.h"
#include "base/os.h"

enum { LEN_BYTES = sizeof(uint32_t) };

struct ring {
    pthread_mutex_t lock;
    char *bytes; /* owned pages; [cap] */
    size_t cap;
    uint64_t head; /* first byte not yet received */
    uint64_t tail; /* first free byte */
    bool producer_waits;
    int fd;
    int room_fd;
};

status ring_create(ring **out, size_t bytes, error *err) {
    ring *r = mem_try_calloc(1, sizeof *r);
    if (r == NULL) return error_set(err, ERR_NOMEM, "ring: no memory");
    r->fd = r->room_fd = -1;
    r->cap = bytes;
    (void)pthread_mutex_init(&r->lock, NULL);
    void *pages = NULL;
    status st = os_map_pages(bytes, &pages, err);
    r->bytes = pages;
    if (st == OK) st = os_event_open(&r->fd, err);
    if (st == OK) st = os_event_open(&r->room_fd, err);
    if (st != OK) {
        ring_destroy(r);
        return st;
    }
    *out = r;
    return OK;
}

void ring_destroy(ring *r) {
    if (r == NULL) return;
    os_unmap(r->bytes, r->cap);
    os_close(r->fd);
    os_close(r->room_fd);
    (void)pthread_mutex_destroy(&r->lock);
    mem_free(r);
}

static void copy_in(ring *r, uint64_t at, const void *from, size_t n) {
    size_t i = (size_t)(at % r->cap);
    size_t first = num_min_size(n, r->cap - i);
    memcpy(r->bytes + i, from, first);
    memcpy(r->bytes, (const char *)from + first, n - first);
}

static void copy_out(const ring *r, uint64_t at, void *to, size_t n) {
    size_t i = (size_t)(at % r->cap);
    size_t first = num_min_size(n, r->cap - i);
    memcpy(to, r->bytes + i, first);
    memcpy((char *)to + first, r->bytes, n - first);
}

static bool fits(const ring *r, uint32_t bytes) {
    return (size_t)bytes + LEN_BYTES <= r->cap - (size_t)(r->tail - r->head);
}

bool ring_send(ring *r, const void *frame, uint32_t bytes) {
    ASSERT(bytes > 0);
    (void)pthread_mutex_lock(&r->lock);
    bool ok = fits(r, bytes);
    if (ok) {
        copy_in(r, r->tail, &bytes, LEN_BYTES);
        copy_in(r, r->tail + LEN_BYTES, frame, bytes);
        r->tail += LEN_BYTES + bytes;
    }
    r->producer_waits |= !ok; /* a smaller frame that fits does not end the wait */
    (void)pthread_mutex_unlock(&r->lock);
    if (ok) os_event_signal(r->fd);
    return ok;
}

bool ring_has_room(ring *r, uint32_t bytes) {
    (void)pthread_mutex_lock(&r->lock);
    bool ok = fits(r, bytes);
    r->producer_waits |= !ok;
    (void)pthread_mutex_unlock(&r->lock);
    return ok;
}

uint32_t ring_next_bytes(ring *r) {
    uint32_t bytes = 0;
    (void)pthread_mutex_lock(&r->lock);
    if (r->tail != r->head) copy_out(r, r->head, &bytes, LEN_BYTES);
    (void)pthread_mutex_unlock(&r->lock);
    return bytes;
}

/* Take the next frame off, into `out` unless that is NULL. */
static void take(ring *r, void *out) {
    uint32_t bytes = 0;
    (void)pthread_mutex_lock(&r->lock);
    ASSERT(r->tail != r->head);
    copy_out(r, r->head, &bytes, LEN_BYTES);
    if (out != NULL) copy_out(r, r->head + LEN_BYTES, out, bytes);
    r->head += LEN_BYTES + bytes;
    if (r->head == r->tail) r->head = r->tail = 0; /* small traffic stays on the first pages */
    bool wake = r->producer_waits;
    r->producer_waits = false;
    (void)pthread_mutex_unlock(&r->lock);
    if (wake) os_event_signal(r->room_fd);
}

void ring_recv(ring *r, void *out) { take(r, out); }
void ring_drop(ring *r) { take(r, NULL); }

uint32_t ring_frame_bytes_max(const ring *r) {
    return (uint32_t)num_min_size(r->cap - LEN_BYTES, UINT32_MAX);
}

int ring_fd(const ring *r) { return r->fd; }
int ring_room_fd(const ring *r) { return r->room_fd; }
