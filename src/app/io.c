/* io.c - what the commands share: the MODEL argument, stdin, files, stdout. */
#include <stdio.h>

#include "app/commands.h"
#include "base/buf.h"
#include "base/os.h"

enum { READ_BYTES = 64 << 10 };

status command_model_arg(const config *c, const char **path, error *err) {
    if (c->argc_rest != 1)
        return error_set(err, ERR_INVALID, "usage: one MODEL is wanted, %d given", c->argc_rest);
    *path = c->argv_rest[0];
    return OK;
}

status command_no_args(const config *c, error *err) {
    if (c->argc_rest == 0) return OK;
    return error_set(err, ERR_INVALID, "usage: no arguments are wanted, '%s' given",
                     c->argv_rest[0]);
}

status command_blame(const char *path, error *err) {
    if (strstr(err->msg, path) != NULL) return err->code; /* it is named already */
    return error_set(err, err->code, "'%s': %s", path, err->msg);
}

static status read_all(int fd, const char *what, buf *out, error *err) {
    for (;;) {
        size_t got = 0;
        void *at = buf_reserve(out, READ_BYTES);
        if (at == NULL) return buf_status(out, what, err);
        TRY(os_read_some(fd, at, READ_BYTES, &got, err));
        if (got == 0) return OK;
        out->n += got;
    }
}

status command_read_stdin(buf *out, error *err) { return read_all(0, "stdin", out, err); }

status command_read_file(const char *path, buf *out, error *err) {
    int fd = -1;
    TRY(os_open_read(path, &fd, err));
    status st = read_all(fd, path, out, err);
    os_close(fd);
    return st;
}

status command_write_stdout(const void *bytes, size_t n, error *err) {
    return os_write_full(1, bytes, n, err);
}
