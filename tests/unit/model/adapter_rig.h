/* adapter_rig.h - low-rank adapters written to files: GGUF, and PEFT directories.
 *
 * The matrices are f32 and filled from a seed; a PEFT directory gets its SafeTensors file byte by
 * byte, so that nothing of ours writes what ours reads. */
#ifndef ADAPTER_RIG_H
#define ADAPTER_RIG_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/os.h"
#include "model/gguf_make.h"
#include "test.h"

enum { RIG_MATRICES_MAX = 256, RIG_PATH_BYTES = 128 };

typedef struct rig_matrix {
    char name[128];
    uint32_t rows, cols;
    float *data; /* owned */
} rig_matrix;

typedef struct rig_adapter {
    rig_matrix items[RIG_MATRICES_MAX];
    uint32_t count;
    char path[RIG_PATH_BYTES]; /* of the file or directory, once written */
} rig_adapter;

/* A copy of data, or zeros for NULL; returns what was kept. */
static inline float *rig_matrix_add(rig_adapter *a, const char *name, uint32_t rows, uint32_t cols,
                                    const float *data) {
    CHECK(a->count < RIG_MATRICES_MAX);
    rig_matrix *m = &a->items[a->count++];
    str_copy_c(m->name, sizeof m->name, str_of(name));
    m->rows = rows;
    m->cols = cols;
    m->data = calloc((size_t)rows * cols + 1, sizeof *m->data);
    CHECK(m->data != NULL);
    if (data != NULL) memcpy(m->data, data, (size_t)rows * cols * sizeof *data);
    return m->data;
}

static inline void rig_adapter_free(rig_adapter *a) {
    for (uint32_t i = 0; i < a->count; i++) free(a->items[i].data);
    *a = (rig_adapter){0};
}

/* Numbers in (-1, 1) from a seed. */
static inline void rig_fill(float *out, size_t count, float scale, uint64_t seed) {
    for (size_t i = 0; i < count; i++) {
        seed = seed * 6364136223846793005ull + 1442695040888963407ull;
        out[i] = scale * ((float)(seed >> 40) / (float)(1 << 23) - 1.0f);
    }
}

static inline void rig_name_path(rig_adapter *a, const char *what) {
    static unsigned turn;
    (void)snprintf(a->path, sizeof a->path, "/tmp/gantry-%s-%d-%u", what, (int)getpid(), turn++);
}

static inline void rig_write_file(const char *path, str bytes) {
    int fd = -1;
    error err = {0};
    CHECK_EQ(os_open_write(path, &fd, &err), OK);
    CHECK_EQ(os_write_full(fd, bytes.p, bytes.n, &err), OK);
    os_close(fd);
}

/* --- GGUF: item names are those of tensors, "blk.0.attn_q.weight.lora_a" -------------------- */

static inline void rig_write_gguf(rig_adapter *a, const char *arch, float alpha) {
    gguf_maker *maker = NULL;
    gguf *g = NULL;
    error err = {0};
    int fd = -1;
    rig_name_path(a, "lora");
    CHECK_EQ(gguf_make_create(&maker, &err), OK);
    gguf_make_str(maker, "general.type", S("adapter"));
    gguf_make_str(maker, "adapter.type", S("lora"));
    gguf_make_str(maker, "general.architecture", str_of(arch));
    gguf_make_f32(maker, "adapter.lora.alpha", alpha);
    for (uint32_t i = 0; i < a->count; i++) {
        const rig_matrix *m = &a->items[i];
        gguf_tensor t = {.name = str_of(m->name),
                         .type = DTYPE_F32,
                         .dims_count = 2,
                         .dims = {m->cols, m->rows, 1, 1},
                         .data = m->data};
        gguf_make_tensor(maker, &t);
    }
    CHECK_EQ(gguf_make_finish(maker, &g, &err), OK);
    CHECK_EQ(os_open_write(a->path, &fd, &err), OK);
    CHECK_EQ(gguf_make_write(g, fd, &err), OK);
    CHECK_STR(err.msg, "");
    os_close(fd);
    gguf_close(g);
}

/* --- PEFT: item names are those of SafeTensors ------------------------------------------- */

static inline void rig_put_header(const rig_adapter *a, buf *out) {
    uint64_t at = 0;
    char line[512];
    buf_put_char(out, '{');
    for (uint32_t i = 0; i < a->count; i++) {
        const rig_matrix *m = &a->items[i];
        uint64_t bytes = (uint64_t)m->rows * m->cols * 4;
        (void)snprintf(
            line, sizeof line,
            "%s\"%s\":{\"dtype\":\"F32\",\"shape\":[%u,%u],\"data_offsets\":[%llu,%llu]}",
            i > 0 ? "," : "", m->name, m->rows, m->cols, (unsigned long long)at,
            (unsigned long long)(at + bytes));
        buf_put_str(out, str_of(line));
        at += bytes;
    }
    buf_put_char(out, '}');
}

static inline void rig_write_peft(rig_adapter *a, const char *config) {
    buf header, file;
    char path[RIG_PATH_BYTES + 64];
    buf_init(&header, 1 << 20);
    buf_init(&file, 64 << 20);
    rig_put_header(a, &header);
    uint64_t n = header.n;
    buf_put(&file, &n, sizeof n);
    buf_put_str(&file, buf_view(&header));
    for (uint32_t i = 0; i < a->count; i++)
        buf_put(&file, a->items[i].data,
                (size_t)a->items[i].rows * a->items[i].cols * sizeof(float));
    rig_name_path(a, "peft");
    CHECK_EQ(mkdir(a->path, 0700), 0);
    (void)snprintf(path, sizeof path, "%s/adapter_config.json", a->path);
    rig_write_file(path, str_of(config));
    (void)snprintf(path, sizeof path, "%s/adapter_model.safetensors", a->path);
    rig_write_file(path, buf_view(&file));
    buf_deinit(&header);
    buf_deinit(&file);
}

/* The file, or the directory with its two files. */
static inline void rig_adapter_drop(rig_adapter *a) {
    char path[RIG_PATH_BYTES + 64];
    (void)snprintf(path, sizeof path, "%s/adapter_config.json", a->path);
    (void)unlink(path);
    (void)snprintf(path, sizeof path, "%s/adapter_model.safetensors", a->path);
    (void)unlink(path);
    if (a->path[0] != '\0' && rmdir(a->path) != 0) CHECK_EQ(unlink(a->path), 0);
    rig_adapter_free(a);
}

#endif
