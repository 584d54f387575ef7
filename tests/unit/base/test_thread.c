/* test_thread.c - thread.h and log.h: names, owners, and lines held back by a gate. */
#include "base/alloc.h"
#include "base/log.h"
#include "base/os.h"
#include "base/thread.h"
#include "test.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct seen {
    char name[16];
    bool signals_blocked;
    bool owner;
    thread_owner *object;
    _Atomic bool may_end;
} seen;

static void look(void *arg) {
    seen *s = arg;
    sigset_t now;
    (void)pthread_getname_np(pthread_self(), s->name, sizeof s->name);
    (void)pthread_sigmask(SIG_SETMASK, NULL, &now);
    s->signals_blocked = sigismember(&now, SIGTERM) == 1 && sigismember(&now, SIGINT) == 1;
    thread_owner_claim(s->object);
    s->owner = thread_is_owner(s->object);
    while (!s->may_end) os_sleep_ms(1);
}

TEST(thread_runs_named_with_signals_blocked) {
    thread_owner object = {0};
    seen s = {.object = &object};
    thread t = {0};
    CHECK(thread_has_ended(&t));
    thread_join(&t);
    CHECK_EQ(thread_start(&t, "a name that is too long", look, &s, NULL), OK);
    CHECK(!thread_has_ended(&t));
    s.may_end = true;
    while (!thread_has_ended(&t)) os_sleep_ms(1);
    thread_join(&t);
    CHECK_STR(s.name, "a name that is ");
    CHECK(s.signals_blocked);
    CHECK(s.owner);
    CHECK(!thread_is_owner(&object));
    sigset_t now;
    (void)pthread_sigmask(SIG_SETMASK, NULL, &now);
    CHECK_EQ(sigismember(&now, SIGTERM), 0);
}

TEST(thread_owner_is_who_claimed_first) {
    thread_owner object = {0};
    CHECK(thread_is_owner(&object)); /* nobody's: everybody's */
    thread_owner_claim(&object);
    seen s = {.object = &object, .may_end = true};
    thread t = {0};
    CHECK_EQ(thread_start(&t, "late", look, &s, NULL), OK);
    thread_join(&t);
    CHECK(!s.owner);
    CHECK(thread_is_owner(&object));
}

TEST(thread_without_memory_is_an_error) {
    thread t = {0};
    for (int after = 0; after < 2; after++) {
        error err = {0};
        mem_fail_after(after);
        CHECK_EQ(thread_start(&t, "poor", look, NULL, &err), ERR_NOMEM);
        mem_fail_after(-1);
        CHECK_HAS(err.msg, "poor");
    }
    CHECK(!t.started);
}

TEST(log_gate_holds_lines_back_and_counts_them) {
    static _Atomic uint64_t now_ns = 1000000000;
    static log_gate gate;
    uint32_t held = 77;
    os_clock_set(&now_ns);
    CHECK(log_gate_pass(&gate, 1000, &held));
    CHECK_EQ(held, 0);
    for (int i = 0; i < 5; i++) CHECK(!log_gate_pass(&gate, 1000, &held));
    now_ns += 999000000;
    CHECK(!log_gate_pass(&gate, 1000, &held));
    now_ns += 1000000;
    CHECK(log_gate_pass(&gate, 1000, &held));
    CHECK_EQ(held, 6);
    CHECK(!log_gate_pass(&gate, 1000, &held));
    os_clock_set(NULL);
}

/* What a child process that logs leaves on its stderr. */
static size_t logged(void (*run)(void), char *out, size_t out_bytes) {
    int fds[2];
    if (pipe(fds) != 0) return 0;
    pid_t pid = fork();
    if (pid == 0) {
        (void)dup2(fds[1], 2);
        run();
        _exit(0);
    }
    os_close(fds[1]);
    size_t n = 0;
    status st = os_read_full(fds[0], out, out_bytes - 1, &n, NULL);
    out[st == OK ? n : 0] = '\0';
    os_close(fds[0]);
    (void)waitpid(pid, NULL, 0);
    return n;
}

static void log_some(void) {
    static _Atomic uint64_t now_ns = 1751632496789000000u;
    os_clock_set(&now_ns);
    log_debug("test", "hidden %d", 1);
    log_info("test", "event id=%d name=%s", 7, "two\nlines");
    log_set_level(LOG_ERROR);
    log_warn("test", "hidden %d", 2);
    log_error("test", "%0*d", 3000, 1);
    log_set_level(LOG_OFF);
    log_error("test", "hidden %d", 3);
    log_write(LOG_OFF, "test", "hidden %d", 4);
}

TEST(log_lines_are_whole_and_bounded) {
    char text[8192];
    size_t n = logged(log_some, text, sizeof text);
    CHECK_HAS(text, "2025-07-04T12:34:56.789Z INFO test event id=7 name=two lines\n");
    CHECK(strstr(text, "hidden") == NULL);
    unsigned lines = 0;
    for (size_t i = 0; i < n; i++) lines += text[i] == '\n';
    CHECK_EQ(lines, 2);
    CHECK(n < 1200 && n > 1000);
}
