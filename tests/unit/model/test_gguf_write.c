/* test_gguf_write.c - what the writer writes, the reader reads. */
#include "model/gguf_write.h"

#include <errno.h>

#include "base/alloc.h"
#include "base/os.h"
#include "model/gguf.h"
#include "test.h"

/* Tensor 0 is "m" [2, 3], tensor 1 the vector "v"; `missing` bytes of each are left out. */
typedef struct filler {
    size_t missing;
    size_t surplus;
} filler;

static status fill(void *ctx, uint32_t idx, gguf_sink *s, error *err) {
    static const float m[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    const filler *f = ctx;
    size_t bytes = (idx == 0 ? 6 : 3) * sizeof *m;
    return gguf_sink_put(s, m, bytes - f->missing + f->surplus, err);
}

static status write_sample(int fd, filler f, error *err) {
    gguf_writer *w = NULL;
    status st = gguf_writer_create(&w, err);
    if (st != OK) return st;
    gguf_write_u32(w, "u", 7);
    gguf_write_f32(w, "f", 0.5f);
    gguf_write_bool(w, "b", true);
    gguf_write_str(w, "s", S("text"));
    gguf_write_strs(w, "ss", (str[]){S("x"), S("")}, 2);
    gguf_write_f32s(w, "fs", (float[]){1.5f}, 1);
    gguf_write_i32s(w, "is", (int32_t[]){-1, 2}, 2);
    gguf_write_tensor(w, "m", DTYPE_F32, 2, 3);
    gguf_write_tensor(w, "v", DTYPE_F32, 0, 3);
    st = gguf_write_finish(w, fd, fill, &f, err);
    gguf_writer_destroy(w);
    return st;
}

TEST(gguf_write_is_read_back_value_by_value) {
    int fd = -1;
    blob *b = NULL;
    gguf *g = NULL;
    error err = {0};
    uint32_t u = 0;
    bool yes = false;
    float f = 0;
    str s;
    gguf_array a;
    CHECK_EQ(os_memfd("test", &fd, &err), OK);
    CHECK_EQ(write_sample(fd, (filler){0}, &err), OK);
    CHECK_EQ(blob_open_fd(&b, fd, "sample", &err), OK);
    CHECK_EQ(gguf_open(&g, b, &err), OK);
    CHECK_EQ(gguf_version(g), 3);
    CHECK(gguf_get_u32(g, S("u"), &u, &err) == OK && u == 7);
    CHECK(gguf_get_f32(g, S("f"), &f, &err) == OK && f == 0.5f);
    CHECK(gguf_get_bool(g, S("b"), &yes, &err) == OK && yes);
    CHECK(gguf_get_str(g, S("s"), &s, &err) == OK && str_eq(s, S("text")));
    CHECK(gguf_get_array(g, S("ss"), GGUF_TYPE_STRING, &a, &err) == OK && a.count == 2);
    CHECK(gguf_get_array(g, S("fs"), GGUF_TYPE_F32, &a, &err) == OK);
    CHECK(gguf_array_f32(&a, 0) == 1.5f);
    CHECK(gguf_get_array(g, S("is"), GGUF_TYPE_I32, &a, &err) == OK);
    CHECK(gguf_array_i32(&a, 0) == -1);
    const gguf_tensor *m = gguf_tensor_find(g, S("m")), *v = gguf_tensor_find(g, S("v"));
    CHECK(m != NULL && m->dims_count == 2 && m->dims[0] == 3 && m->dims[1] == 2);
    CHECK(v != NULL && v->dims_count == 1 && v->dims[0] == 3);
    CHECK(m != NULL && ((const float *)m->data)[5] == 6.0f);
    CHECK(v != NULL && ((const float *)v->data)[2] == 3.0f && v->offset % 32 == 0);
    gguf_close(g);
    blob_close(b);
}

TEST(gguf_write_checks_that_a_tensor_gets_its_bytes) {
    int fd = -1;
    error err = {0};
    CHECK_EQ(os_memfd("test", &fd, &err), OK);
    CHECK_EQ(write_sample(fd, (filler){.missing = 4}, &err), ERR_INTERNAL);
    CHECK_HAS(err.msg, "tensor 'm' got 20 of its 24 bytes");
    CHECK_EQ(write_sample(fd, (filler){.surplus = 4}, &err), ERR_INTERNAL);
    CHECK_HAS(err.msg, "28 bytes for a tensor that needs 24 more");
    os_close(fd);
}

TEST(gguf_write_reports_every_failing_allocation_and_write) {
    int fd = -1;
    int64_t n = 0;
    error err = {0};
    CHECK_EQ(os_memfd("test", &fd, &err), OK);
    for (; n < 100; n++) {
        mem_fail_after(n);
        status st = write_sample(fd, (filler){0}, &err);
        mem_fail_after(-1);
        if (st == OK) break;
    }
    CHECK(n > 2 && n < 100);
    for (n = 0; n < 100; n++) {
        os_fail_after(OS_CALL_WRITE, n, ENOSPC);
        status st = write_sample(fd, (filler){0}, &err);
        os_fail_after(OS_CALL_WRITE, -1, 0);
        if (st == OK) break;
        CHECK_EQ(st, ERR_IO);
    }
    CHECK(n > 2 && n < 100);
    os_close(fd);
}
