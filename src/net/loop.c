/* loop.c - see loop.h.  One epoll set; an event carries the descriptor and the generation of
 * its watch, so that an event for a descriptor that changed hands is recognized as stale. */
#include "net/loop.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/log.h"
#include "base/num.h"
#include "base/os.h"
#include "base/thread.h"

enum {
    EVENTS_MAX = 256, /* taken from the kernel at a time */
    TICKS_MAX = 16,
    HOOKS_MAX = 8,
};

typedef struct watch {
    void (*fn)(void *ctx); /* NULL: no watch */
    void *ctx;
    uint32_t generation;
} watch;

typedef struct tick {
    void (*fn)(void *ctx); /* NULL: free */
    void *ctx;
    uint32_t every_ms;
    uint64_t due_ms;
} tick;

typedef struct hook {
    uint32_t (*before)(void *ctx); /* NULL: free */
    void *ctx;
} hook;

struct loop {
    int epoll_fd;
    int stop_fd;    /* readable once loop_stop() was called */
    watch *watches; /* owned; [watches_cap], by descriptor */
    size_t watches_cap;
    uint32_t generation; /* of the newest watch */
    tick ticks[TICKS_MAX];
    hook hooks[HOOKS_MAX];
    uint64_t now_ms;
    bool stopping;
    thread_owner owner; /* claimed while loop_run() runs */
};

static uint64_t clock_ms(void) { return os_now_ns() / 1000000u; }

static status epoll_error(error *err, const char *what, int fd) {
    return error_set(err, errno == ENOMEM ? ERR_NOMEM : ERR_IO, "loop: %s of descriptor %d: %s",
                     what, fd, strerror(errno)); /* NOLINT: a constant text for each errno */
}

static void on_stop(void *ctx) {
    loop *l = ctx;
    os_event_clear(l->stop_fd);
    l->stopping = true;
}

static status open_descriptors(loop *l, error *err) {
    TRY(os_event_open(&l->stop_fd, err));
    if (!os_fault(OS_CALL_EVENT)) l->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (l->epoll_fd < 0) return epoll_error(err, "creation", l->epoll_fd);
    return loop_watch(l, l->stop_fd, LOOP_READ, on_stop, l, err);
}

status loop_create(loop **out, error *err) {
    loop *l = mem_try_calloc(1, sizeof *l);
    if (l == NULL) return error_set(err, ERR_NOMEM, "loop: no memory for %zu bytes", sizeof *l);
    l->epoll_fd = -1;
    l->stop_fd = -1;
    l->now_ms = clock_ms();
    status st = open_descriptors(l, err);
    if (st != OK) {
        loop_destroy(l);
        return st;
    }
    *out = l;
    return OK;
}

void loop_destroy(loop *l) {
    if (l == NULL) return;
    os_close(l->epoll_fd);
    os_close(l->stop_fd);
    mem_free(l->watches);
    mem_free(l);
}

/* --- watches --------------------------------------------------------------- */
static status reserve_watch(loop *l, int fd, error *err) {
    size_t need = (size_t)fd + 1;
    if (need <= l->watches_cap) return OK;
    size_t cap = l->watches_cap < 64 ? 64 : l->watches_cap;
    while (cap < need) cap *= 2; /* a descriptor number: far from overflow */
    watch *w = mem_try_realloc(l->watches, cap * sizeof *w);
    if (w == NULL) return error_set(err, ERR_NOMEM, "loop: no memory for %zu watches", cap);
    memset(w + l->watches_cap, 0, (cap - l->watches_cap) * sizeof *w);
    l->watches = w;
    l->watches_cap = cap;
    return OK;
}

static uint32_t epoll_bits(uint32_t what) {
    return ((what & LOOP_READ) != 0 ? (uint32_t)EPOLLIN : 0) |
           ((what & LOOP_HANGUP) != 0 ? (uint32_t)EPOLLRDHUP : 0);
}

status loop_watch(loop *l, int fd, uint32_t what, void (*fn)(void *ctx), void *ctx, error *err) {
    ASSERT(thread_is_owner(&l->owner));
    ASSERT(fd >= 0 && fn != NULL);
    TRY(reserve_watch(l, fd, err));
    watch *w = &l->watches[fd];
    ASSERT(w->fn == NULL);
    struct epoll_event ev = {.events = epoll_bits(what)};
    uint32_t generation = ++l->generation;
    ev.data.u64 = (uint64_t)generation << 32 | (uint32_t)fd;
    if (os_fault(OS_CALL_EVENT) || epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, fd, &ev) != 0)
        return epoll_error(err, "watch", fd);
    *w = (watch){.fn = fn, .ctx = ctx, .generation = generation};
    return OK;
}

void loop_unwatch(loop *l, int fd) {
    ASSERT(thread_is_owner(&l->owner));
    if (fd < 0 || (size_t)fd >= l->watches_cap || l->watches[fd].fn == NULL) return;
    l->watches[fd] = (watch){0};
    (void)epoll_ctl(l->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
}

static void dispatch(loop *l, const struct epoll_event *ev) {
    size_t fd = (uint32_t)ev->data.u64;
    uint32_t generation = (uint32_t)(ev->data.u64 >> 32);
    if (fd >= l->watches_cap) return;
    watch w = l->watches[fd]; /* a copy: the callback may grow the table */
    if (w.fn != NULL && w.generation == generation) w.fn(w.ctx);
}

/* --- ticks and hooks --------------------------------------------------------- */
status loop_every(loop *l, uint32_t ms, void (*fn)(void *ctx), void *ctx, error *err) {
    ASSERT(thread_is_owner(&l->owner));
    ASSERT(ms > 0);
    for (uint32_t i = 0; i < TICKS_MAX; i++) {
        tick *t = &l->ticks[i];
        if (t->fn != NULL) continue;
        *t = (tick){.fn = fn, .ctx = ctx, .every_ms = ms, .due_ms = clock_ms() + ms};
        return OK;
    }
    return error_set(err, ERR_LIMIT, "loop: more than %d ticks", TICKS_MAX);
}

void loop_cancel(loop *l, void (*fn)(void *ctx), void *ctx) {
    ASSERT(thread_is_owner(&l->owner));
    for (uint32_t i = 0; i < TICKS_MAX; i++)
        if (l->ticks[i].fn == fn && l->ticks[i].ctx == ctx) l->ticks[i] = (tick){0};
}

status loop_before_wait(loop *l, uint32_t (*before)(void *ctx), void *ctx, error *err) {
    ASSERT(thread_is_owner(&l->owner));
    for (uint32_t i = 0; i < HOOKS_MAX; i++) {
        if (l->hooks[i].before != NULL) continue;
        l->hooks[i] = (hook){.before = before, .ctx = ctx};
        return OK;
    }
    return error_set(err, ERR_LIMIT, "loop: more than %d hooks", HOOKS_MAX);
}

void loop_before_wait_cancel(loop *l, void *ctx) {
    ASSERT(thread_is_owner(&l->owner));
    for (uint32_t i = 0; i < HOOKS_MAX; i++)
        if (l->hooks[i].ctx == ctx) l->hooks[i] = (hook){0};
}

static void run_ticks(loop *l) {
    for (uint32_t i = 0; i < TICKS_MAX; i++) {
        tick *t = &l->ticks[i];
        if (t->fn == NULL || t->due_ms > l->now_ms) continue;
        t->due_ms = l->now_ms + t->every_ms; /* no burst after a long turn */
        t->fn(t->ctx);
    }
}

static uint32_t run_hooks(loop *l) {
    uint32_t wait_ms = UINT32_MAX;
    for (uint32_t i = 0; i < HOOKS_MAX; i++)
        if (l->hooks[i].before != NULL)
            wait_ms = num_min_u32(wait_ms, l->hooks[i].before(l->hooks[i].ctx));
    return wait_ms;
}

/* For epoll_wait: -1 without limit. */
static int wait_limit_ms(const loop *l, uint32_t hooks_ms) {
    uint64_t limit = hooks_ms;
    uint64_t now_ms = clock_ms();
    for (uint32_t i = 0; i < TICKS_MAX; i++) {
        const tick *t = &l->ticks[i];
        if (t->fn == NULL) continue;
        limit = num_min_u64(limit, t->due_ms > now_ms ? t->due_ms - now_ms : 0);
    }
    if (limit == UINT32_MAX) return -1;
    return limit < INT32_MAX ? (int)limit : INT32_MAX;
}

/* --- running ------------------------------------------------------------------ */
uint64_t loop_now_ms(const loop *l) { return l->now_ms; }

static void turn(loop *l) {
    struct epoll_event events[EVENTS_MAX];
    int limit_ms = wait_limit_ms(l, run_hooks(l));
    int n = os_fault(OS_CALL_POLL) ? -1 : epoll_wait(l->epoll_fd, events, EVENTS_MAX, limit_ms);
    l->now_ms = clock_ms();
    if (n < 0 && errno != EINTR) {
        LOG_EVERY(1000, LOG_ERROR, "loop", "wait failed errno=%d", errno);
        os_sleep_ms(1); /* an error that stays must not spin */
    }
    for (int i = 0; i < n; i++) dispatch(l, &events[i]);
    run_ticks(l);
}

void loop_run(loop *l) {
    thread_owner_claim(&l->owner);
    l->stopping = false;
    while (!l->stopping) turn(l);
    (void)run_hooks(l); /* what the last turn produced still leaves */
    l->owner.claimed = false;
}

void loop_stop(loop *l) { os_event_signal(l->stop_fd); }
