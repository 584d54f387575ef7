/* outfile.c - see outfile.h. */
#include "base/outfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/os.h"

/* ".tmp-" and six letters that mkostemp() chooses in the place of as many X. */
#define SUFFIX ".tmp-"
enum { LETTERS = 6 };

/* What mkstemp() does not ask the umask about. */
enum { FILE_MODE = 0644 };

static status file_error(error *err, const char *call, const char *path) {
    char text[128];
    const int saved = errno;
    /* the GNU strerror_r: returns the text, in its own storage or ours */
    const char *why = strerror_r(saved, text, sizeof text);
    return error_set(err, saved == ENOENT ? ERR_NOT_FOUND : ERR_IO, "%s '%s': %s", call, path, why);
}

static status copy_paths(outfile *f, const char *path, error *err) {
    const size_t n = strlen(path);
    f->path = mem_try_alloc(n + 1);
    f->temp = mem_try_alloc(n + sizeof SUFFIX + LETTERS);
    if (f->path == NULL || f->temp == NULL)
        return error_set(err, ERR_NOMEM, "outfile: no memory for a path of %zu bytes", n);
    memcpy(f->path, path, n + 1);
    memcpy(f->temp, path, n);
    memcpy(f->temp + n, SUFFIX, sizeof SUFFIX - 1);
    memset(f->temp + n + sizeof SUFFIX - 1, 'X', LETTERS);
    f->temp[n + sizeof SUFFIX - 1 + LETTERS] = '\0';
    return OK;
}

static mode_t file_mode(void) {
    const mode_t mask = umask(0);
    (void)umask(mask);
    return FILE_MODE & ~mask;
}

/* The rename at the end would fail on a folder, and put a file in the place of a device. */
static status check_place(const char *path, error *err) {
    struct stat st;
    if (path[0] == '\0') return error_set(err, ERR_INVALID, "the output has no name");
    if (stat(path, &st) != 0 || S_ISREG(st.st_mode)) return OK;
    return error_set(err, ERR_INVALID, "'%s' is %s, not a regular file", path,
                     S_ISDIR(st.st_mode) ? "a directory" : "special");
}

status outfile_open(outfile *f, const char *path, error *err) {
    *f = (outfile){.fd = -1};
    TRY(check_place(path, err));
    TRY(copy_paths(f, path, err));
    int fd = os_fault(OS_CALL_OPEN) ? -1 : mkostemp(f->temp, O_CLOEXEC);
    if (fd < 0) return file_error(err, "create", path);
    f->fd = fd;
    if (fchmod(fd, file_mode()) != 0) return file_error(err, "chmod", path);
    return OK;
}

/* The rename itself is on the disk once the folder is. */
static void sync_folder(const char *path) {
    char folder[4096];
    const char *slash = strrchr(path, '/');
    const size_t n = slash == NULL ? 0 : (size_t)(slash - path) + 1;
    if (n >= sizeof folder) return;
    memcpy(folder, path, n);
    folder[n] = '\0';
    int fd = -1;
    if (os_open_read(n > 0 ? folder : ".", &fd, NULL) != OK) return;
    (void)fsync(fd); /* some file systems cannot; the file's content is safe either way */
    os_close(fd);
}

static void release(outfile *f) {
    os_close(f->fd);
    mem_free(f->temp);
    mem_free(f->path);
    *f = (outfile){.fd = -1};
}

status outfile_commit(outfile *f, error *err) {
    if (os_fault(OS_CALL_WRITE) || fsync(f->fd) != 0) return file_error(err, "sync", f->path);
    TRY(os_rename(f->temp, f->path, err));
    sync_folder(f->path);
    release(f);
    return OK;
}

void outfile_abort(outfile *f) {
    if (f->fd >= 0) os_unlink(f->temp);
    release(f);
}

bool outfile_is_same(const char *a, const char *b) {
    struct stat sa, sb;
    if (stat(a, &sa) != 0 || stat(b, &sb) != 0) return false;
    return sa.st_dev == sb.st_dev && sa.st_ino == sb.st_ino;
}
