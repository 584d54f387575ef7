/* test_loop.c - loop.h and deadline.h. */
#include "net/loop.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/os.h"
#include "base/thread.h"
#include "net/deadline.h"
#include "test.h"

typedef struct probe {
    loop *loop;
    int fd, other_fd, fresh[2];
    int calls, other_calls;
    int ticks;
} probe;

static void count_call(void *ctx) {
    probe *p = ctx;
    p->calls++;
    loop_unwatch(p->loop, p->fd); /* level-triggered: it would come again before the stop */
    loop_stop(p->loop);
}

static void count_other(void *ctx) {
    probe *p = ctx;
    p->other_calls++;
}

static void count_tick(void *ctx) {
    probe *p = ctx;
    if (++p->ticks == 5) loop_stop(p->loop);
}

TEST(loop_runs_ticks_until_it_is_stopped) {
    probe p = {0};
    error err = {0};
    CHECK_EQ(loop_create(&p.loop, &err), OK);
    CHECK_EQ(loop_every(p.loop, 2, count_tick, &p, &err), OK);
    uint64_t start_ns = os_now_ns();
    loop_run(p.loop);
    CHECK(p.ticks >= 5);
    CHECK(os_now_ns() - start_ns >= 8 * 1000000u);
    loop_cancel(p.loop, count_tick, &p);
    loop_stop(p.loop);
    loop_run(p.loop); /* a stop before the run counts */
    loop_destroy(p.loop);
}

TEST(loop_reports_readable_and_hung_up_descriptors) {
    probe p = {0};
    int pair[2];
    error err = {0};
    CHECK_EQ(loop_create(&p.loop, &err), OK);
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    p.fd = pair[0];
    CHECK_EQ(loop_watch(p.loop, pair[0], LOOP_READ, count_call, &p, &err), OK);
    CHECK_EQ(write(pair[1], "x", 1), 1);
    loop_run(p.loop);
    CHECK_EQ(p.calls, 1);
    CHECK_EQ(loop_watch(p.loop, pair[0], LOOP_HANGUP, count_call, &p, &err), OK);
    CHECK_EQ(shutdown(pair[1], SHUT_WR), 0); /* bytes are still unread: that is no obstacle */
    loop_run(p.loop);
    CHECK_EQ(p.calls, 2);
    loop_unwatch(p.loop, pair[0]);
    loop_unwatch(p.loop, pair[0]);
    loop_unwatch(p.loop, 100000);
    loop_unwatch(p.loop, -1);
    os_close(pair[0]);
    os_close(pair[1]);
    loop_destroy(p.loop);
}

/* The first of two ready descriptors closes the other one, whose number then goes to a pipe
 * that has nothing to say. */
static void replace_other(void *ctx) {
    probe *p = ctx;
    error err = {0};
    loop_unwatch(p->loop, p->fd);
    loop_unwatch(p->loop, p->other_fd);
    os_close(p->other_fd);
    CHECK_EQ(pipe2(p->fresh, O_CLOEXEC), 0);
    CHECK_EQ(p->fresh[0], p->other_fd);
    CHECK_EQ(loop_watch(p->loop, p->other_fd, LOOP_READ, count_other, p, &err), OK);
    p->calls++;
    loop_stop(p->loop);
}

static void swap_and_replace(void *ctx) {
    probe *p = ctx;
    int fd = p->fd;
    p->fd = p->other_fd;
    p->other_fd = fd;
    replace_other(p);
}

TEST(loop_drops_events_of_a_descriptor_that_changed_hands) {
    probe p = {0};
    int a[2], b[2];
    error err = {0};
    CHECK_EQ(loop_create(&p.loop, &err), OK);
    CHECK_EQ(pipe2(a, O_CLOEXEC), 0);
    CHECK_EQ(pipe2(b, O_CLOEXEC), 0);
    p.fd = a[0];
    p.other_fd = b[0];
    /* whichever the kernel reports first removes the other */
    CHECK_EQ(loop_watch(p.loop, a[0], LOOP_READ, replace_other, &p, &err), OK);
    CHECK_EQ(loop_watch(p.loop, b[0], LOOP_READ, swap_and_replace, &p, &err), OK);
    CHECK_EQ(write(a[1], "x", 1), 1);
    CHECK_EQ(write(b[1], "x", 1), 1);
    loop_run(p.loop);
    CHECK_EQ(p.calls, 1);
    CHECK_EQ(p.other_calls, 0);
    os_close(p.fd);
    os_close(a[1]);
    os_close(b[1]);
    os_close(p.fresh[0]);
    os_close(p.fresh[1]);
    loop_destroy(p.loop);
}

TEST(loop_watch_that_fails_names_the_descriptor) {
    loop *l = NULL;
    error err = {0};
    CHECK_EQ(loop_create(&l, &err), OK);
    CHECK_EQ(loop_watch(l, 987, LOOP_READ, count_other, NULL, &err), ERR_IO);
    CHECK_HAS(err.msg, "987");
    loop_destroy(l);
}

static void run_it(void *arg) { loop_run(arg); }

TEST(loop_stops_from_another_thread) {
    probe p = {0};
    thread t = {0};
    error err = {0};
    CHECK_EQ(loop_create(&p.loop, &err), OK);
    CHECK_EQ(thread_start(&t, "loop", run_it, p.loop, &err), OK);
    loop_stop(p.loop);
    thread_join(&t);
    loop_destroy(p.loop);
}

static uint32_t in_three_ms(void *ctx) {
    probe *p = ctx;
    if (++p->calls == 3) loop_stop(p->loop);
    return 3;
}

TEST(loop_hook_limits_the_wait) {
    probe p = {0};
    error err = {0};
    CHECK_EQ(loop_create(&p.loop, &err), OK);
    CHECK_EQ(loop_before_wait(p.loop, in_three_ms, &p, &err), OK);
    loop_run(p.loop);
    CHECK(p.calls >= 3);
    loop_before_wait_cancel(p.loop, &p);
    loop_destroy(p.loop);
}

TEST(loop_limits_are_errors) {
    loop *l = NULL;
    error err = {0};
    CHECK_EQ(loop_create(&l, &err), OK);
    int n = 0;
    while (loop_every(l, 1000, count_other, NULL, &err) == OK) n++;
    CHECK(n >= 8);
    CHECK_HAS(err.msg, "ticks");
    while (loop_before_wait(l, in_three_ms, &n, &err) == OK) n++;
    CHECK_HAS(err.msg, "hooks");
    loop_destroy(l);
    l = NULL;
    os_fail_after(OS_CALL_EVENT, 0, 24);
    CHECK_EQ(loop_create(&l, &err), ERR_IO);
    os_fail_after(OS_CALL_EVENT, 1, 24);
    CHECK_EQ(loop_create(&l, &err), ERR_IO);
    os_fail_after(OS_CALL_EVENT, -1, 0);
    CHECK(l == NULL);
}

TEST(deadline_queue_is_in_order_of_time) {
    deadline_queue q = {.ms = 10}, other = {.ms = 5};
    deadline a = {.owner = "a"}, b = {.owner = "b"}, c = {.owner = "c"};
    CHECK_EQ(deadline_wait_ms(&q, 0), UINT32_MAX);
    deadline_set(&a, &q, 100);
    deadline_set(&b, &q, 103);
    deadline_set(&c, &q, 105);
    CHECK_EQ(deadline_wait_ms(&q, 104), 6);
    CHECK(deadline_take_due(&q, 109) == NULL);
    deadline_set(&a, &q, 109); /* again: from the front to the back */
    CHECK(deadline_take_due(&q, 113) == &b);
    deadline_set(&c, &other, 113); /* to another queue */
    CHECK_EQ(deadline_wait_ms(&other, 200), 0);
    CHECK_EQ(deadline_wait_ms(&q, 113), 6);
    deadline_clear(&a);
    deadline_clear(&a);
    CHECK(q.first == NULL && q.last == NULL);
    CHECK(deadline_take_due(&other, 118) == &c);
    CHECK(other.first == NULL && other.last == NULL);
}
