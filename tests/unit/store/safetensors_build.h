/* safetensors_build.h - SafeTensors files in memory and in folders, from the text of a header. */
#ifndef SAFETENSORS_BUILD_H
#define SAFETENSORS_BUILD_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/os.h"
#include "store/safetensors.h"
#include "test.h"

/* Length, header and data_bytes of 0, 1, 2 ... */
static inline void st_build(buf *out, str header, size_t data_bytes) {
    const uint64_t n = header.n;
    buf_init(out, 64 << 20);
    buf_put(out, &n, sizeof n);
    buf_put_str(out, header);
    for (size_t i = 0; i < data_bytes; i++) buf_put_char(out, (char)i);
    CHECK(!out->failed);
}

/* A folder for one test; st_folder_drop() removes the files it knows and the folder. */
typedef struct st_folder {
    char path[32];
    const char *files[8]; /* borrowed; names within the folder */
    int count;
} st_folder;

enum { ST_PATH_BYTES = 128 };

static inline const char *st_folder_file(const st_folder *f, int idx, char out[ST_PATH_BYTES]) {
    (void)snprintf(out, ST_PATH_BYTES, "%s/%s", f->path, f->files[idx]);
    return out;
}

static inline void st_folder_make(st_folder *f) {
    *f = (st_folder){0};
    (void)snprintf(f->path, sizeof f->path, "/tmp/gantry-st-......");
    memset(strchr(f->path, '.'), 'X', 6);
    CHECK(mkdtemp(f->path) != NULL);
}

static inline void st_folder_put(st_folder *f, const char *name, str bytes) {
    int fd = -1;
    error err = {0};
    char path[ST_PATH_BYTES];
    f->files[f->count] = name;
    CHECK_EQ(os_open_write(st_folder_file(f, f->count++, path), &fd, &err), OK);
    CHECK_EQ(os_write_full(fd, bytes.p, bytes.n, &err), OK);
    os_close(fd);
}

static inline void st_folder_shard(st_folder *f, const char *name, str header, size_t data_bytes) {
    buf b;
    st_build(&b, header, data_bytes);
    st_folder_put(f, name, buf_view(&b));
    buf_deinit(&b);
}

static inline void st_folder_drop(st_folder *f) {
    char path[ST_PATH_BYTES];
    for (int i = 0; i < f->count; i++) CHECK_EQ(unlink(st_folder_file(f, i, path)), 0);
    CHECK_EQ(rmdir(f->path), 0);
}

#endif
