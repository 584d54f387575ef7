/* test_os.c - os.h: every call can be made to fail, and short calls are finished. */
#include "base/os.h"
#include "base/thread.h"
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

static const char *temp_path(void) {
    static char path[64];
    (void)snprintf(path, sizeof path, "/tmp/gantry-test-os-%d", (int)getpid());
    return path;
}

TEST(os_writes_and_reads_a_file) {
    const char *path = temp_path();
    int fd = -1;
    uint64_t bytes = 0;
    size_t got = 0;
    char text[16] = "";
    CHECK_EQ(os_open_write(path, &fd, NULL), OK);
    CHECK_EQ(os_write_full(fd, "hello file", 10, NULL), OK);
    os_close(fd);
    CHECK_EQ(os_open_read(path, &fd, NULL), OK);
    CHECK_EQ(os_file_bytes(fd, path, &bytes, NULL), OK);
    CHECK_EQ(bytes, 10);
    CHECK_EQ(os_read_full(fd, text, sizeof text, &got, NULL), OK);
    CHECK_EQ(got, 10);
    CHECK_STR(text, "hello file");
    const void *map = NULL;
    CHECK_EQ(os_map_file(fd, 10, &map, NULL), OK);
    CHECK(memcmp(map, "hello file", 10) == 0);
    os_unmap(map, 10);
    os_close(fd);
    os_unlink(path);
    error err = {0};
    CHECK_EQ(os_open_read(path, &fd, &err), ERR_NOT_FOUND);
    CHECK_HAS(err.msg, path);
}

TEST(os_renames_over_an_old_file) {
    char from[80];
    int fd = -1;
    (void)snprintf(from, sizeof from, "%s.new", temp_path());
    CHECK_EQ(os_open_write(from, &fd, NULL), OK);
    os_close(fd);
    CHECK_EQ(os_rename(from, temp_path(), NULL), OK);
    CHECK_EQ(os_open_read(from, &fd, NULL), ERR_NOT_FOUND);
    error err = {0};
    CHECK_EQ(os_rename(from, temp_path(), &err), ERR_NOT_FOUND);
    os_unlink(temp_path());
}

TEST(os_refuses_what_is_no_regular_file) {
    int fd = -1;
    uint64_t bytes = 0;
    error err = {0};
    CHECK_EQ(os_open_read("/tmp", &fd, &err), OK);
    CHECK_EQ(os_file_bytes(fd, "/tmp", &bytes, &err), ERR_INVALID);
    CHECK_HAS(err.msg, "a directory");
    size_t got = 0;
    char byte = 0;
    CHECK_EQ(os_read_full(fd, &byte, 1, &got, &err), ERR_IO);
    os_close(fd);
    os_close(-1);
    CHECK_EQ(os_open_write("/tmp", &fd, &err), ERR_IO);
}

/* --- injected faults -------------------- */

typedef status fault_call(error *err);

static status call_open_read(error *err) {
    int fd = -1;
    status st = os_open_read("/dev/null", &fd, err);
    os_close(fd);
    return st;
}
static status call_open_write(error *err) {
    int fd = -1;
    status st = os_open_write("/dev/null", &fd, err);
    os_close(fd);
    return st;
}
static status call_memfd(error *err) {
    int fd = -1;
    status st = os_memfd("test", &fd, err);
    os_close(fd);
    return st;
}
static status call_stat(error *err) {
    int fd = -1;
    uint64_t bytes = 0;
    TRY(os_memfd("test", &fd, err));
    status st = os_file_bytes(fd, "test", &bytes, err);
    os_close(fd);
    return st;
}
static status call_read(error *err) {
    int fd = -1;
    size_t got = 0;
    char byte = 0;
    TRY(os_open_read("/dev/zero", &fd, err));
    status st = os_read_full(fd, &byte, 1, &got, err);
    os_close(fd);
    return st;
}
static status call_write(error *err) {
    int fd = -1;
    TRY(os_memfd("test", &fd, err));
    status st = os_write_full(fd, "x", 1, err);
    os_close(fd);
    return st;
}
static status call_map_pages(error *err) {
    void *p = NULL;
    status st = os_map_pages(4096, &p, err);
    os_unmap(p, 4096);
    return st;
}
static status call_map_file(error *err) {
    int fd = -1;
    const void *p = NULL;
    TRY(os_memfd("test", &fd, err));
    status st = os_map_file(fd, 1, &p, err);
    os_unmap(p, 1);
    os_close(fd);
    return st;
}
static status call_event(error *err) {
    int fd = -1;
    status st = os_event_open(&fd, err);
    os_close(fd);
    return st;
}
static void nothing(void *arg) { (void)arg; }
static status call_thread(error *err) {
    thread t = {0};
    status st = thread_start(&t, "test", nothing, NULL, err);
    thread_join(&t);
    return st;
}
static status call_rename(error *err) {
    int fd = -1;
    TRY(os_open_write(temp_path(), &fd, err));
    os_close(fd);
    status st = os_rename(temp_path(), temp_path(), err);
    os_unlink(temp_path());
    return st;
}

TEST(os_every_call_fails_when_it_is_told_to) {
    static const struct {
        os_call kind;
        int error_number;
        fault_call *call;
        status want;
    } cases[] = {
        {OS_CALL_OPEN, EMFILE, call_open_read, ERR_IO},
        {OS_CALL_OPEN, EACCES, call_open_write, ERR_IO},
        {OS_CALL_OPEN, ENOENT, call_open_read, ERR_NOT_FOUND},
        {OS_CALL_OPEN, ENOMEM, call_memfd, ERR_NOMEM},
        {OS_CALL_STAT, EIO, call_stat, ERR_IO},
        {OS_CALL_READ, EIO, call_read, ERR_IO},
        {OS_CALL_WRITE, ENOSPC, call_write, ERR_IO},
        {OS_CALL_MMAP, ENOMEM, call_map_pages, ERR_NOMEM},
        {OS_CALL_MMAP, EACCES, call_map_file, ERR_IO},
        {OS_CALL_EVENT, EMFILE, call_event, ERR_IO},
        {OS_CALL_THREAD, EAGAIN, call_thread, ERR_NOMEM},
        {OS_CALL_RENAME, EXDEV, call_rename, ERR_IO},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        error err = {0};
        CHECK_EQ(cases[i].call(&err), OK);
        os_fail_after(cases[i].kind, 0, cases[i].error_number);
        CHECK_EQ(cases[i].call(&err), cases[i].want);
        CHECK(err.code == cases[i].want && err.msg[0] != '\0');
        os_fail_after(cases[i].kind, -1, 0);
        CHECK_EQ(cases[i].call(NULL), OK);
    }
    os_unlink(temp_path());
}

TEST(os_fault_counts_the_calls_before_it) {
    os_fail_after(OS_CALL_EVENT, 2, EMFILE);
    CHECK_EQ(call_event(NULL), OK);
    CHECK_EQ(call_event(NULL), OK);
    CHECK_EQ(call_event(NULL), ERR_IO);
    CHECK_EQ(call_event(NULL), ERR_IO);
    os_fail_after(OS_CALL_EVENT, -1, 0);
}

TEST(os_wait_with_a_failing_poll_returns) {
    int fd = -1;
    os_fail_after(OS_CALL_POLL, 0, EINTR);
    os_wait(&fd, 1, 10000);
    os_fail_after(OS_CALL_POLL, -1, 0);
    os_wait(&fd, 1, 0);
}

/* --- short calls -------------------- */

enum { PIPE_BYTES = 300000 };

static void write_in_pieces(void *arg) {
    int fd = *(int *)arg;
    unsigned char piece[1000];
    for (unsigned sent = 0; sent < PIPE_BYTES; sent += sizeof piece) {
        for (unsigned i = 0; i < sizeof piece; i++) piece[i] = (unsigned char)((sent + i) * 7);
        (void)os_write_full(fd, piece, sizeof piece, NULL);
    }
    os_close(fd);
}

TEST(os_read_full_collects_short_reads) {
    int fds[2];
    CHECK_EQ(pipe(fds), 0);
    thread t = {0};
    unsigned char *bytes = malloc(PIPE_BYTES + 10);
    size_t got = 0;
    unsigned wrong = 0;
    CHECK_EQ(thread_start(&t, "writer", write_in_pieces, &fds[1], NULL), OK);
    CHECK_EQ(os_read_full(fds[0], bytes, PIPE_BYTES + 10, &got, NULL), OK);
    thread_join(&t);
    CHECK_EQ(got, PIPE_BYTES);
    for (unsigned i = 0; i < got; i++) wrong += bytes[i] != (unsigned char)(i * 7);
    CHECK_EQ(wrong, 0);
    CHECK_EQ(os_read_some(fds[0], bytes, 1, &got, NULL), OK);
    CHECK_EQ(got, 0);
    os_close(fds[0]);
    free(bytes);
}

TEST(os_read_error_half_way_is_reported) {
    int fds[2];
    char text[8];
    size_t got = 77;
    error err = {0};
    CHECK_EQ(pipe(fds), 0);
    CHECK_EQ(os_write_full(fds[1], "abc", 3, NULL), OK);
    os_fail_after(OS_CALL_READ, 1, EIO);
    CHECK_EQ(os_read_full(fds[0], text, sizeof text, &got, &err), ERR_IO);
    os_fail_after(OS_CALL_READ, -1, 0);
    CHECK_EQ(got, 77);
    os_close(fds[0]);
    os_close(fds[1]);
}

/* --- clock, machine, events -------------------- */

TEST(os_clock_can_be_owned) {
    static _Atomic uint64_t now_ns = 5000000000u;
    os_clock_set(&now_ns);
    CHECK_EQ(os_now_ns(), 5000000000ll);
    CHECK_EQ(os_wall_ms(), 5000);
    now_ns += 1500000;
    CHECK_EQ(os_wall_ms(), 5001);
    os_clock_set(NULL);
    uint64_t before = os_now_ns();
    os_sleep_ms(2);
    CHECK(os_now_ns() - before >= 2000000);
    CHECK(os_wall_ms() > 1600000000000ull);
}

TEST(os_machine_figures_make_sense) {
    CHECK(os_cpu_count() >= 1 && os_cpu_count() <= 65536);
    CHECK(os_memory_available() > 1 << 20);
    unsigned char a[64] = {0}, b[64] = {0};
    os_random(a, sizeof a);
    os_random(b, sizeof b);
    CHECK(memcmp(a, b, sizeof a) != 0);
    os_random(a, 0);
}

TEST(os_pages_read_as_zero_again_after_a_drop) {
    void *p = NULL;
    size_t bytes = (size_t)8 << 20;
    CHECK_EQ(os_map_pages(bytes, &p, NULL), OK);
    unsigned char *c = p;
    CHECK_EQ(c[0] | c[bytes - 1], 0);
    c[0] = c[bytes - 1] = 9;
    os_pages_drop(p, bytes);
    CHECK_EQ(c[0] | c[bytes - 1], 0);
    os_unmap(p, bytes);
    os_unmap(NULL, 0);
}

TEST(os_event_is_level_until_it_is_cleared) {
    int fd = -1;
    CHECK_EQ(os_event_open(&fd, NULL), OK);
    os_event_clear(fd); /* must not block */
    os_event_signal(fd);
    os_event_signal(fd);
    int fds[2] = {-1, fd};
    uint64_t before = os_now_ns();
    os_wait(fds, 2, 60000);
    os_wait(fds, 2, 60000);
    CHECK(os_now_ns() - before < 30000000000ull);
    os_event_clear(fd);
    os_wait(fds, 2, 1);
    os_close(fd);
}

TEST(os_library_gives_symbols_a_path_and_reasons) {
    void *library = NULL;
    error err = {0};
    char path[256];
    CHECK_EQ(os_library_open("/nowhere/libnothing.so", &library, &err), ERR_NOT_FOUND);
    CHECK_HAS(err.msg, "load '/nowhere/libnothing.so'");
    CHECK_HAS(err.msg, "No such file");
    CHECK(library == NULL);
    CHECK_EQ(os_library_open("libm.so.6", &library, &err), OK);
    if (library == NULL) return;
    CHECK(os_library_symbol(library, "cos") != NULL);
    CHECK(os_library_symbol(library, "no_such_function") == NULL);
    os_library_path(library, path, sizeof path);
    CHECK_HAS(path, "/libm.so.6");
    os_library_close(library);
    os_library_close(NULL);
    os_fail_after(OS_CALL_LIBRARY, 0, ENOMEM);
    CHECK_EQ(os_library_open("libm.so.6", &library, &err), ERR_NOMEM);
    os_fail_after(OS_CALL_LIBRARY, -1, 0);
}

static bool count_two(void *ctx, const char *name) {
    CHECK(strcmp(name, ".") != 0 && strcmp(name, "..") != 0);
    return ++*(int *)ctx < 2;
}

TEST(os_folder_lists_its_entries_until_told_to_stop) {
    int count = 0;
    CHECK(os_path_exists("/proc/self"));
    CHECK(!os_path_exists("/proc/self/nothing"));
    os_folder_each("/proc/self", count_two, &count);
    CHECK_EQ(count, 2);
    count = 0;
    os_folder_each("/proc/self/nothing", count_two, &count);
    CHECK_EQ(count, 0);
    os_fail_after(OS_CALL_OPEN, 0, EMFILE);
    os_folder_each("/proc/self", count_two, &count);
    CHECK_EQ(count, 0);
    os_fail_after(OS_CALL_OPEN, -1, 0);
}
