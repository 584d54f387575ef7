/* files.c - see files.h. */
#include "train/files.h"

#include "base/num.h"
#include "base/os.h"

enum { READ_BYTES = 1 << 20 };

status file_read(const char *path, buf *out, error *err) {
    int fd = -1;
    TRY(os_open_read(path, &fd, err));
    status st = OK;
    for (size_t got = 1; st == OK && got > 0;) {
        const size_t room = num_min_size(READ_BYTES, out->bytes_max - out->n);
        void *at = room > 0 ? buf_reserve(out, room) : NULL;
        if (at != NULL)
            st = os_read_some(fd, at, room, &got, err);
        else
            st = error_set(err, ERR_LIMIT, "'%s' has more than %zu bytes", path, out->bytes_max);
        if (st == OK) out->n += got;
    }
    os_close(fd);
    return st;
}

uint64_t file_hash(uint64_t so_far, const void *bytes, size_t n) {
    const unsigned char *p = bytes;
    for (size_t i = 0; i < n; i++) so_far = (so_far ^ p[i]) * UINT64_C(0x100000001B3);
    return so_far;
}
