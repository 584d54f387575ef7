/* gguf_write.c - see gguf_write.h. */
#include "model/gguf_write.h"

#include <inttypes.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/buf.h"
#include "base/num.h"
#include "base/os.h"
#include "model/gguf_internal.h"

enum { VERSION = 3 };

/* Vocabularies are a few megabytes; this is what a header may come to at most. */
#define HEADER_BYTES_MAX ((size_t)256 << 20)

typedef struct planned_tensor {
    char name[GGUF_NAME_BYTES_MAX + 1];
    dtype type;
    uint32_t dims_count;
    uint64_t dims[GGUF_DIMS_MAX];
    uint64_t bytes;
} planned_tensor;

struct gguf_writer {
    buf kv;
    buf tensors; /* of planned_tensor */
    uint64_t kv_count;
    uint32_t tensors_count;
    uint32_t alignment;
};

struct gguf_sink {
    int fd;
    uint64_t left; /* bytes the current tensor still needs */
};

status gguf_writer_create(gguf_writer **out, error *err) {
    gguf_writer *w = mem_try_calloc(1, sizeof *w);
    if (w == NULL) return error_set(err, ERR_NOMEM, "gguf: no memory for a writer");
    buf_init(&w->kv, HEADER_BYTES_MAX);
    buf_init(&w->tensors, HEADER_BYTES_MAX);
    w->alignment = GGUF_ALIGNMENT_DEFAULT;
    *out = w;
    return OK;
}

void gguf_writer_destroy(gguf_writer *w) {
    if (w == NULL) return;
    buf_deinit(&w->kv);
    buf_deinit(&w->tensors);
    mem_free(w);
}

void gguf_writer_align(gguf_writer *w, uint32_t alignment) {
    ASSERT(alignment > 0 && alignment <= GGUF_ALIGNMENT_MAX && (alignment & (alignment - 1)) == 0);
    w->alignment = alignment;
}

/* --- key-values ------------------------------------------------------------ */
static void put_u32(buf *b, uint32_t v) { buf_put(b, &v, sizeof v); }
static void put_u64(buf *b, uint64_t v) { buf_put(b, &v, sizeof v); }

static void put_str(buf *b, str s) {
    put_u64(b, s.n);
    buf_put_str(b, s);
}

static void put_key(gguf_writer *w, const char *key, gguf_type type) {
    put_str(&w->kv, str_of(key));
    put_u32(&w->kv, type);
    w->kv_count++;
}

static void put_array_key(gguf_writer *w, const char *key, gguf_type type, uint32_t count) {
    put_key(w, key, GGUF_TYPE_ARRAY);
    put_u32(&w->kv, type);
    put_u64(&w->kv, count);
}

void gguf_write_u32(gguf_writer *w, const char *key, uint32_t value) {
    put_key(w, key, GGUF_TYPE_U32);
    put_u32(&w->kv, value);
}

void gguf_write_f32(gguf_writer *w, const char *key, float value) {
    put_key(w, key, GGUF_TYPE_F32);
    buf_put(&w->kv, &value, sizeof value);
}

void gguf_write_bool(gguf_writer *w, const char *key, bool value) {
    put_key(w, key, GGUF_TYPE_BOOL);
    buf_put_char(&w->kv, value ? 1 : 0);
}

void gguf_write_str(gguf_writer *w, const char *key, str value) {
    put_key(w, key, GGUF_TYPE_STRING);
    put_str(&w->kv, value);
}

void gguf_write_strs(gguf_writer *w, const char *key, const str *values, uint32_t count) {
    put_array_key(w, key, GGUF_TYPE_STRING, count);
    for (uint32_t i = 0; i < count; i++) put_str(&w->kv, values[i]);
}

void gguf_write_f32s(gguf_writer *w, const char *key, const float *values, uint32_t count) {
    put_array_key(w, key, GGUF_TYPE_F32, count);
    buf_put(&w->kv, values, count * sizeof *values);
}

void gguf_write_i32s(gguf_writer *w, const char *key, const int32_t *values, uint32_t count) {
    put_array_key(w, key, GGUF_TYPE_I32, count);
    buf_put(&w->kv, values, count * sizeof *values);
}

/* The bytes of a value as they lie in its file, behind key and type. */
static uint64_t stored_bytes(const gguf_value *v) {
    if (v->type == GGUF_TYPE_STRING) return sizeof(uint64_t) + v->as.string.n;
    if (v->type == GGUF_TYPE_ARRAY) return sizeof(uint32_t) + sizeof(uint64_t) + v->as.array.bytes;
    return gguf_type_bytes(v->type);
}

void gguf_write_copy(gguf_writer *w, const gguf_value *value) {
    const char *stored = value->key.p + value->key.n + sizeof(uint32_t);
    put_str(&w->kv, value->key);
    put_u32(&w->kv, value->type);
    buf_put(&w->kv, stored, (size_t)stored_bytes(value));
    w->kv_count++;
}

/* --- tensors --------------------------------------------------------------- */
void gguf_write_tensor_dims(gguf_writer *w, str name, dtype type, uint32_t dims_count,
                            const uint64_t *dims) {
    planned_tensor t = {.type = type, .dims_count = dims_count};
    ASSERT(name.n <= GGUF_NAME_BYTES_MAX && dims_count > 0 && dims_count <= GGUF_DIMS_MAX);
    str_copy_c(t.name, sizeof t.name, name);
    ASSERT(dtype_row_bytes(type, dims[0], &t.bytes));
    for (uint32_t i = 0; i < dims_count; i++) {
        t.dims[i] = dims[i];
        ASSERT(i == 0 || num_mul_u64(&t.bytes, t.bytes, dims[i]));
    }
    buf_put(&w->tensors, &t, sizeof t);
    w->tensors_count++;
}

void gguf_write_tensor(gguf_writer *w, const char *name, dtype type, uint64_t rows, uint64_t cols) {
    const uint64_t dims[2] = {cols, rows};
    gguf_write_tensor_dims(w, str_of(name), type, rows != 0 ? 2 : 1, dims);
}

static uint64_t padded(const gguf_writer *w, uint64_t bytes) {
    const uint64_t mask = w->alignment - 1;
    return (bytes + mask) & ~mask;
}

static const planned_tensor *tensor_at(const gguf_writer *w, uint32_t idx) {
    return (const planned_tensor *)(const void *)w->tensors.p + idx;
}

static void put_tensor(buf *b, const planned_tensor *t, uint64_t offset) {
    put_str(b, str_of(t->name));
    put_u32(b, t->dims_count);
    for (uint32_t i = 0; i < t->dims_count; i++) put_u64(b, t->dims[i]);
    put_u32(b, t->type);
    put_u64(b, offset);
}

/* --- the file -------------------------------------------------------------- */
static void put_header(const gguf_writer *w, buf *b) {
    uint64_t offset = 0;
    buf_put_str(b, S("GGUF"));
    put_u32(b, VERSION);
    put_u64(b, w->tensors_count);
    put_u64(b, w->kv_count);
    buf_put_str(b, buf_view(&w->kv));
    for (uint32_t i = 0; i < w->tensors_count; i++) {
        put_tensor(b, tensor_at(w, i), offset);
        offset += padded(w, tensor_at(w, i)->bytes);
    }
    while (b->n % w->alignment != 0 && !b->failed) buf_put_char(b, 0);
}

static status write_header(const gguf_writer *w, int fd, error *err) {
    buf header;
    buf_init(&header, 2 * HEADER_BYTES_MAX);
    put_header(w, &header);
    status st = buf_status(&header, "gguf: header", err);
    if (st == OK) st = os_write_full(fd, header.p, header.n, err);
    buf_deinit(&header);
    return st;
}

status gguf_sink_put(gguf_sink *s, const void *bytes, size_t n, error *err) {
    if (n > s->left)
        return error_set(err, ERR_INTERNAL,
                         "gguf: %zu bytes for a tensor that needs %" PRIu64 " more", n, s->left);
    s->left -= n;
    return os_write_full(s->fd, bytes, n, err);
}

static status write_zeros(int fd, uint64_t n, error *err) {
    static const char zeros[4096];
    while (n > 0) {
        const size_t part = (size_t)num_min_u64(n, sizeof zeros);
        TRY(os_write_full(fd, zeros, part, err));
        n -= part;
    }
    return OK;
}

static status write_tensor(const gguf_writer *w, uint32_t idx, int fd, gguf_source source,
                           void *ctx, error *err) {
    const planned_tensor *t = tensor_at(w, idx);
    gguf_sink s = {.fd = fd, .left = t->bytes};
    TRY(source(ctx, idx, &s, err));
    if (s.left != 0)
        return error_set(err, ERR_INTERNAL,
                         "gguf: tensor '%s' got %" PRIu64 " of its %" PRIu64 " bytes", t->name,
                         t->bytes - s.left, t->bytes);
    return write_zeros(fd, padded(w, t->bytes) - t->bytes, err);
}

status gguf_write_finish(gguf_writer *w, int fd, gguf_source source, void *ctx, error *err) {
    TRY(buf_status(&w->kv, "gguf: key-values", err));
    TRY(buf_status(&w->tensors, "gguf: tensors", err));
    TRY(write_header(w, fd, err));
    for (uint32_t i = 0; i < w->tensors_count; i++) TRY(write_tensor(w, i, fd, source, ctx, err));
    return OK;
}
