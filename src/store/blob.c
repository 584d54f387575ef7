/* blob.c - see blob.h. */
#include "store/blob.h"

#include <inttypes.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/os.h"

enum {
    BLOB_NAME_BYTES = 256,
    PAGE_BYTES = 4096, /* a mapping begins on one; where pages are larger, nothing is forgotten */
};

struct blob {
    str bytes;
    bool mapped; /* bytes are ours to unmap */
    char name[BLOB_NAME_BYTES];
};

static status create(blob **out, const char *name, error *err) {
    blob *b = mem_try_calloc(1, sizeof *b);
    if (b == NULL) return error_set(err, ERR_NOMEM, "blob: no memory to open '%s'", name);
    str_copy_c(b->name, sizeof b->name, str_of(name));
    *out = b;
    return OK;
}

static status map_fd(blob *b, int fd, error *err) {
    uint64_t bytes = 0;
    const void *p = NULL;
    TRY(os_file_bytes(fd, b->name, &bytes, err));
    if (bytes == 0) return error_set(err, ERR_FORMAT, "'%s' is empty (0 bytes)", b->name);
    if (bytes > SIZE_MAX)
        return error_set(err, ERR_LIMIT, "'%s' has %" PRIu64 " bytes, at most %zu can be mapped",
                         b->name, bytes, SIZE_MAX);
    TRY(os_map_file(fd, (size_t)bytes, &p, err));
    b->bytes = (str){p, (size_t)bytes};
    b->mapped = true;
    return OK;
}

status blob_open_fd(blob **out, int fd, const char *name, error *err) {
    blob *b = NULL;
    status st = create(&b, name, err);
    if (st == OK) st = map_fd(b, fd, err);
    os_close(fd); /* the mapping does not need it */
    if (st != OK) {
        mem_free(b);
        return st;
    }
    *out = b;
    return OK;
}

status blob_open_file(blob **out, const char *path, error *err) {
    int fd = -1;
    TRY(os_open_read_at_once(path, &fd, err)); /* what is no file is refused, not waited for */
    return blob_open_fd(out, fd, path, err);
}

status blob_open_memory(blob **out, str bytes, const char *name, error *err) {
    blob *b = NULL;
    if (bytes.n == 0) return error_set(err, ERR_FORMAT, "'%s' is empty (0 bytes)", name);
    TRY(create(&b, name, err));
    b->bytes = bytes;
    *out = b;
    return OK;
}

void blob_close(blob *b) {
    if (b == NULL) return;
    if (b->mapped) os_unmap(b->bytes.p, b->bytes.n);
    mem_free(b);
}

str blob_view(const blob *b) { return b->bytes; }

const char *blob_name(const blob *b) { return b->name; }

void blob_forget(const blob *b, const void *from, size_t bytes) {
    const uintptr_t begin = (uintptr_t)from & ~((uintptr_t)PAGE_BYTES - 1);
    ASSERT((const char *)from >= b->bytes.p && bytes <= b->bytes.n);
    if (b->mapped && bytes > 0) os_pages_drop((void *)begin, (uintptr_t)from + bytes - begin);
}
