/* http_linger.c - ending a connection whose client is still sending.
 *
 * Closing a socket with unread bytes makes the kernel send a reset, and a reset that overtakes
 * the answer makes the client forget it: somebody who uploads too much would see "connection
 * reset" in place of 413.  So the socket lives on under a second descriptor (the library closes
 * the first), its sending half already shut, and what arrives is dropped until the client has
 * finished, or has sent or taken too much. */
#include "base/alloc.h"
#include "base/os.h"
#include "net/http_internal.h"

void http_linger_end(http_linger *g) {
    http_server *s = g->server;
    loop_unwatch(s->loop, g->fd);
    deadline_clear(&g->limit);
    os_close(g->fd);
    if (g->prev != NULL)
        g->prev->next = g->next;
    else
        s->lingers = g->next;
    if (g->next != NULL) g->next->prev = g->prev;
    s->lingers_count--;
    mem_free(g);
}

static void on_more(void *ctx) {
    http_linger *g = ctx;
    if (sock_drain(g->fd, &g->bytes_left) != SOCK_DRAINED_EMPTY) http_linger_end(g);
}

static void linger_add(http_server *s, int fd, uint64_t bytes_left) {
    http_linger *g = mem_try_calloc(1, sizeof *g);
    if (g == NULL) {
        os_close(fd);
        return;
    }
    *g = (http_linger){.server = s, .next = s->lingers, .fd = fd, .bytes_left = bytes_left};
    g->limit.owner = g;
    if (s->lingers != NULL) s->lingers->prev = g;
    s->lingers = g;
    s->lingers_count++;
    deadline_set(&g->limit, &s->limits[HTTP_LIMIT_LINGER], loop_now_ms(s->loop));
    if (loop_watch(s->loop, fd, LOOP_READ, on_more, g, NULL) != OK) http_linger_end(g);
}

void http_linger_start(http_server *s, int fd, bool mid_request) {
    uint64_t bytes_left = HTTP_LINGER_BYTES_MAX;
    /* one buffer at most here: a fast sender must not hold up this turn */
    uint64_t at_once = HTTP_BLOCK_BYTES;
    sock_drained got = sock_drain(fd, &at_once);
    bool nothing = got == SOCK_DRAINED_EMPTY && at_once == HTTP_BLOCK_BYTES && !mid_request;
    if (got == SOCK_DRAINED_END || nothing) return;
    if (s->lingers_count == HTTP_LINGERS_MAX) /* the one that has had the longest time */
        http_linger_end(s->limits[HTTP_LIMIT_LINGER].first->owner);
    int second = sock_dup(fd);
    if (second >= 0) linger_add(s, second, bytes_left);
}
