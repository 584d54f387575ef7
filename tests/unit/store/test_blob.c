/* test_blob.c - whole files, mapped. */
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/os.h"
#include "store/blob.h"
#include "test.h"

static int memfd_with(const char *text) {
    int fd = -1;
    error err = {0};
    CHECK_EQ(os_memfd("test", &fd, &err), OK);
    CHECK_EQ(os_write_full(fd, text, strlen(text), &err), OK);
    return fd;
}

TEST(blob_shows_the_whole_content_and_the_name) {
    blob *b = NULL;
    error err = {0};
    CHECK_EQ(blob_open_fd(&b, memfd_with("hello"), "five", &err), OK);
    CHECK(str_eq(blob_view(b), S("hello")));
    CHECK_STR(blob_name(b), "five");
    blob_close(b);
}

TEST(blob_refuses_an_empty_file_a_folder_and_a_missing_one) {
    blob *b = NULL;
    error err = {0};
    CHECK_EQ(blob_open_fd(&b, memfd_with(""), "nothing", &err), ERR_FORMAT);
    CHECK_HAS(err.msg, "'nothing' is empty");
    CHECK_EQ(blob_open_file(&b, ".", &err), ERR_INVALID);
    CHECK_HAS(err.msg, "directory");
    CHECK_EQ(blob_open_file(&b, "no-such-file", &err), ERR_NOT_FOUND);
    CHECK_EQ(blob_open_memory(&b, S(""), "nothing", &err), ERR_FORMAT);
    CHECK(b == NULL);
    blob_close(NULL);
}

TEST(blob_refuses_pipes_and_devices_without_waiting) {
    char dir[] = "/tmp/gantry-blob-......", path[64];
    blob *b = NULL;
    error err = {0};
    memset(strchr(dir, '.'), 'X', 6);
    CHECK(mkdtemp(dir) != NULL);
    (void)snprintf(path, sizeof path, "%s/pipe", dir);
    CHECK_EQ(mkfifo(path, 0600), 0); /* nobody writes: a plain open() would wait for ever */
    CHECK_EQ(blob_open_file(&b, path, &err), ERR_INVALID);
    CHECK_HAS(err.msg, "pipe' is a pipe, not a regular file");
    CHECK_EQ(unlink(path), 0);
    CHECK_EQ(rmdir(dir), 0);
    CHECK_EQ(blob_open_file(&b, "/dev/null", &err), ERR_INVALID);
    CHECK_STR(err.msg, "'/dev/null' is a device, not a regular file");
    int ends[2];
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    CHECK_EQ(blob_open_fd(&b, ends[0], "wire", &err), ERR_INVALID);
    CHECK_STR(err.msg, "'wire' is a socket, not a regular file");
    (void)close(ends[1]);
    CHECK(b == NULL);
}

TEST(blob_takes_the_descriptor_also_when_it_fails) {
    blob *b = NULL;
    error err = {0};
    int fd = memfd_with("");
    CHECK_EQ(blob_open_fd(&b, fd, "x", &err), ERR_FORMAT);
    CHECK(lseek(fd, 0, SEEK_CUR) == -1 && errno == EBADF);
}

TEST(blob_what_was_forgotten_reads_the_same) {
    static char text[20000];
    blob *b = NULL;
    error err = {0};
    memset(text, 'x', sizeof text - 1);
    CHECK_EQ(blob_open_fd(&b, memfd_with(text), "x", &err), OK);
    const str view = blob_view(b);
    for (size_t from = 0; from < view.n; from += 1777) {
        blob_forget(b, view.p + from, view.n - from);
        CHECK(memcmp(view.p, text, view.n) == 0);
    }
    blob_forget(b, view.p + view.n, 0);
    blob_close(b);
    CHECK_EQ(blob_open_memory(&b, str_of(text), "x", &err), OK); /* not ours to drop */
    blob_forget(b, text, sizeof text - 1);
    CHECK(text[0] == 'x' && text[4096] == 'x');
    blob_close(b);
}

TEST(blob_survives_every_failing_call) {
    static const os_call calls[] = {OS_CALL_STAT, OS_CALL_MMAP};
    blob *b = NULL;
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        error err = {0};
        int fd = memfd_with("x");
        os_fail_after(calls[i], 0, EIO);
        CHECK_EQ(blob_open_fd(&b, fd, "x", &err), ERR_IO);
        os_fail_after(calls[i], -1, 0);
        CHECK(err.msg[0] != '\0');
    }
    error err = {0};
    int fd = memfd_with("x");
    mem_fail_after(0);
    CHECK_EQ(blob_open_fd(&b, fd, "x", &err), ERR_NOMEM);
    mem_fail_after(-1);
    os_fail_after(OS_CALL_OPEN, 0, EACCES);
    CHECK_EQ(blob_open_file(&b, ".", &err), ERR_IO);
    os_fail_after(OS_CALL_OPEN, -1, 0);
    CHECK(b == NULL);
}
