/* arch_rig.h - small models of any architecture in memory, from a table of their tensors.
 *
 * The weights are zeros: these tests are about which bytes of the file become which field, and
 * about what is refused. */
#ifndef ARCH_RIG_H
#define ARCH_RIG_H

#include "base/alloc.h"
#include "gguf_build.h"

typedef struct arch_key {
    const char *key;
    uint32_t value;
} arch_key;

typedef struct arch_tensor {
    const char *name;
    uint64_t rows; /* 0: a vector */
    uint64_t cols;
    bool optional; /* the model opens without it */
} arch_tensor;

typedef struct arch_case {
    const char *arch;
    const arch_key *keys;
    size_t keys_count;
    const arch_tensor *tensors;
    size_t tensors_count;
    const char *eps_key;
} arch_case;

#define ARCH_COUNT(list) (sizeof(list) / sizeof *(list))

/* The file of the case without that key or tensor; NULL: all of it. */
static inline void arch_build(build *b, const arch_case *c, const char *without) {
    build_init(b);
    add_str(b, "general.architecture", c->arch);
    for (size_t i = 0; i < c->keys_count; i++)
        if (!is_left_out(c->keys[i].key, without)) add_u32(b, c->keys[i].key, c->keys[i].value);
    if (!is_left_out(c->eps_key, without)) add_f32(b, c->eps_key, 1e-5f);
    good_vocab(b, NULL);
    for (size_t i = 0; i < c->tensors_count; i++) {
        const arch_tensor *t = &c->tensors[i];
        if (!is_left_out(t->name, without)) add_tensor(b, t->name, DTYPE_F32, t->rows, t->cols);
    }
}

static inline model *arch_open(build *b, str *bytes) {
    blob *file = NULL;
    model *m = NULL;
    error err = {0};
    *bytes = build_finish(b);
    CHECK_EQ(blob_open_memory(&file, *bytes, "folder/test.gguf", &err), OK);
    CHECK_EQ(model_open_blob(&m, file, &err), OK);
    CHECK_STR(err.msg, "");
    return m;
}

static inline void arch_close(model *m, str bytes) {
    model_close(m);
    free((void *)(uintptr_t)bytes.p);
}

/* What the file says without that key or tensor; "opened" when it does not mind. */
static inline const char *arch_without(const arch_case *c, const char *name) {
    build b;
    arch_build(&b, c, name);
    return model_refusal(&b);
}

/* What the file says with another value of that key. */
static inline const char *arch_with_key(const arch_case *c, const char *key, uint32_t value) {
    build b;
    arch_build(&b, c, key);
    add_u32(&b, key, value);
    return model_refusal(&b);
}

/* What the file says with a tensor of another shape. */
static inline const char *arch_with_shape(const arch_case *c, const char *name, uint64_t rows,
                                          uint64_t cols) {
    build b;
    arch_build(&b, c, name);
    add_tensor(&b, name, DTYPE_F32, rows, cols);
    return model_refusal(&b);
}

/* Each tensor that must be there is asked for by name, each that is there is taken. */
static inline void arch_check_tensors(const arch_case *c) {
    for (size_t i = 0; i < c->tensors_count; i++) {
        const arch_tensor *t = &c->tensors[i];
        const char *said = arch_without(c, t->name);
        if (t->optional)
            CHECK_STR(said, "opened");
        else
            CHECK_HAS(said, t->name);
        said = arch_with_shape(c, t->name, t->rows, t->cols + 1);
        CHECK_HAS(said, t->name);
    }
}

/* Opening the case fails cleanly wherever memory runs out. */
static inline void arch_check_memory(const arch_case *c) {
    enum { TRIES_MAX = 100 };
    build b;
    arch_build(&b, c, NULL);
    str bytes = build_finish(&b);
    int64_t n = 0;
    for (; n < TRIES_MAX; n++) {
        blob *file = NULL;
        model *m = NULL;
        error err = {0};
        CHECK_EQ(blob_open_memory(&file, bytes, "test", &err), OK);
        mem_fail_after(n);
        status st = model_open_blob(&m, file, &err);
        mem_fail_after(-1);
        model_close(m);
        if (st == OK) break;
        CHECK_EQ(st, ERR_NOMEM);
        CHECK(err.msg[0] != '\0');
    }
    CHECK(n > 0 && n < TRIES_MAX);
    free((void *)(uintptr_t)bytes.p);
}

/* The tensor's first element among those of `from`: which row a slice begins with. */
static inline long long arch_row_of(const model_tensor *slice, const model_tensor *from) {
    return ((const float *)slice->data - (const float *)from->data) / (long long)from->cols;
}

#endif
