/* gguf_make.c - see gguf_make.h: the description.  gguf_make_write.c writes it.
 *
 * A key-value is kept as it would lie in a file, so that whoever copies key-values from file to
 * file (gguf_write_copy) can copy these:
 *
 *   arena:  key bytes | u32 type | value as GGUF stores it
 *           ^ value.key            ^ views of strings and arrays point in here */
#include "model/gguf_make.h"

#include <inttypes.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/buf.h"
#include "base/num.h"
#include "model/gguf_internal.h"
#include "tensor/quant.h"

enum { VERSION = 3 };

struct gguf_maker {
    gguf *g;     /* owned; its arena holds everything that is copied */
    buf kv;      /* of gguf_value */
    buf tensors; /* of gguf_tensor */
    status st;   /* of the first failure; err says which */
    error err;
};

/* --- lifecycle ----------------------------------------------------------------- */
status gguf_make_create(gguf_maker **out, error *err) {
    gguf_maker *g = mem_try_calloc(1, sizeof *g);
    gguf *made = mem_try_calloc(1, sizeof *made);
    if (g == NULL || made == NULL) {
        mem_free(g);
        mem_free(made);
        return error_set(err, ERR_NOMEM, "gguf: no memory for a description");
    }
    arena_init(&made->own, SIZE_MAX);
    made->version = VERSION;
    made->has_data = true;
    g->g = made;
    buf_init(&g->kv, GGUF_KV_MAX * sizeof(gguf_value));
    buf_init(&g->tensors, GGUF_TENSORS_MAX * sizeof(gguf_tensor));
    *out = g;
    return OK;
}

void gguf_make_destroy(gguf_maker *g) {
    if (g == NULL) return;
    buf_deinit(&g->kv);
    buf_deinit(&g->tensors);
    gguf_close(g->g);
    mem_free(g);
}

/* The first failure is the one that finish reports. */
static void keep(gguf_maker *g, status st, const error *err) {
    if (st == OK || g->st != OK) return;
    g->st = st;
    g->err = *err;
}

void *gguf_make_take(gguf_maker *g, uint64_t bytes) {
    error err = {0};
    void *p = bytes <= SIZE_MAX ? arena_take(&g->g->own, (size_t)bytes) : NULL;
    if (p == NULL)
        keep(g, error_set(&err, ERR_NOMEM, "gguf: no memory for %" PRIu64 " bytes", bytes), &err);
    return p;
}

/* NULL as a copy of nothing, or when there is no memory. */
static void *copy(gguf_maker *g, const void *from, size_t bytes) {
    void *p = bytes > 0 ? gguf_make_take(g, bytes) : NULL;
    if (p != NULL) memcpy(p, from, bytes);
    return p;
}

/* --- key-values ------------------------------------------------------------------ */
static char *put(char *at, const void *bytes, size_t n) {
    if (n > 0) memcpy(at, bytes, n);
    return at + n;
}

/* Room for a value behind its key and type; NULL when it cannot be had. */
static char *begin_kv(gguf_maker *g, const char *key, gguf_type type, size_t value_bytes,
                      gguf_value *v) {
    error err = {0};
    const uint32_t type_id = type;
    const str name = str_of(key);
    const status st = gguf_check_name(name, "key", GGUF_KEY_BYTES_MAX, &err);
    keep(g, st, &err);
    if (st != OK) return NULL;
    char *p = gguf_make_take(g, (uint64_t)name.n + sizeof type_id + value_bytes);
    if (p == NULL) return NULL;
    *v = (gguf_value){.key = {p, name.n}, .type = type};
    return put(put(p, name.p, name.n), &type_id, sizeof type_id);
}

static void add_scalar(gguf_maker *g, const char *key, gguf_type type, const void *value) {
    gguf_value v;
    const uint32_t bytes = gguf_type_bytes(type);
    char *at = begin_kv(g, key, type, bytes, &v);
    if (at == NULL) return;
    (void)put(at, value, bytes);
    gguf_decode(type, (const unsigned char *)at, &v);
    buf_put(&g->kv, &v, sizeof v);
}

void gguf_make_u32(gguf_maker *g, const char *key, uint32_t value) {
    add_scalar(g, key, GGUF_TYPE_U32, &value);
}

void gguf_make_f32(gguf_maker *g, const char *key, float value) {
    add_scalar(g, key, GGUF_TYPE_F32, &value);
}

void gguf_make_bool(gguf_maker *g, const char *key, bool value) {
    const uint8_t byte = value ? 1 : 0;
    add_scalar(g, key, GGUF_TYPE_BOOL, &byte);
}

void gguf_make_str(gguf_maker *g, const char *key, str value) {
    gguf_value v;
    const uint64_t bytes = value.n;
    char *at = begin_kv(g, key, GGUF_TYPE_STRING, sizeof bytes + value.n, &v);
    if (at == NULL) return;
    at = put(at, &bytes, sizeof bytes);
    v.as.string = (str){at, value.n};
    (void)put(at, value.p, value.n);
    buf_put(&g->kv, &v, sizeof v);
}

/* Adds the key of an array; answers where its elements go, NULL when there is no memory. */
static char *add_array(gguf_maker *g, const char *key, gguf_type type, uint64_t count,
                       size_t bytes) {
    gguf_value v;
    const uint32_t type_id = type;
    char *at = begin_kv(g, key, GGUF_TYPE_ARRAY, sizeof type_id + sizeof count + bytes, &v);
    if (at == NULL) return NULL;
    at = put(put(at, &type_id, sizeof type_id), &count, sizeof count);
    v.as.array = (gguf_array){.type = type, .count = count, .data = at, .bytes = bytes};
    buf_put(&g->kv, &v, sizeof v);
    return at;
}

static void add_numbers(gguf_maker *g, const char *key, gguf_type type, const void *values,
                        uint32_t count) {
    const size_t bytes = (size_t)count * gguf_type_bytes(type);
    char *at = add_array(g, key, type, count, bytes);
    if (at != NULL) (void)put(at, values, bytes);
}

void gguf_make_u32s(gguf_maker *g, const char *key, const uint32_t *values, uint32_t count) {
    add_numbers(g, key, GGUF_TYPE_U32, values, count);
}

void gguf_make_i32s(gguf_maker *g, const char *key, const int32_t *values, uint32_t count) {
    add_numbers(g, key, GGUF_TYPE_I32, values, count);
}

void gguf_make_f32s(gguf_maker *g, const char *key, const float *values, uint32_t count) {
    add_numbers(g, key, GGUF_TYPE_F32, values, count);
}

void gguf_make_strs(gguf_maker *g, const char *key, const str *values, uint32_t count) {
    size_t bytes = 0;
    for (uint32_t i = 0; i < count; i++) bytes += sizeof(uint64_t) + values[i].n;
    char *at = add_array(g, key, GGUF_TYPE_STRING, count, bytes);
    for (uint32_t i = 0; at != NULL && i < count; i++) {
        const uint64_t n = values[i].n;
        at = put(put(at, &n, sizeof n), values[i].p, values[i].n);
    }
}

/* --- tensors --------------------------------------------------------------------- */
static uint64_t rows_of(const gguf_tensor *t) {
    return t->dims_count > 1 ? t->dims[1] : t->dims[0];
}

static status check_packed(const gguf_tensor *t, const packed_matrix *m, error *err) {
    const uint64_t rows = t->parts != NULL ? t->dims[1] : t->elems / t->dims[0];
    if (m->cols != t->dims[0] || m->rows != rows)
        return error_set(err, ERR_FORMAT,
                         "gguf: tensor '%.*s' is [%" PRIu64 ", %" PRIu64 "], its %s [%u, %u]",
                         STR(t->name), rows, t->dims[0], packed_name(m), m->rows, m->cols);
    if (!quant_is_writable(t->type))
        return error_set(err, ERR_UNSUPPORTED, "gguf: tensor '%.*s' is %s and cannot become %s",
                         STR(t->name), packed_name(m), dtype_name(t->type));
    return OK;
}

static status check_parts(const gguf_tensor *t, error *err) {
    if (t->dims_count != 3)
        return error_set(err, ERR_FORMAT,
                         "gguf: tensor '%.*s' has parts and %u dimensions, must have 3",
                         STR(t->name), t->dims_count);
    for (uint64_t i = 0; i < t->dims[2]; i++) {
        const gguf_part *part = &t->parts[i];
        ASSERT((part->data != NULL) != (part->packed != NULL));
        if (part->packed != NULL) TRY(check_packed(t, part->packed, err));
    }
    return OK;
}

/* Rows change places only as a whole, within the one matrix of the tensor. */
static status check_halves(const gguf_tensor *t, error *err) {
    const uint64_t two_each = 2 * (uint64_t)t->halves_heads;
    if (t->halves_heads == 0) return OK;
    ASSERT(t->parts == NULL && t->dims_count <= 2);
    ASSERT(t->dims_count == 2 || (t->packed == NULL && dtype_get(t->type)->block_elems == 1));
    if (rows_of(t) % two_each != 0)
        return error_set(err, ERR_FORMAT,
                         "gguf: tensor '%.*s' has %" PRIu64 " rows for %u heads of two halves",
                         STR(t->name), rows_of(t), t->halves_heads);
    return OK;
}

static status check_tensor(gguf_tensor *t, error *err) {
    ASSERT((t->data != NULL) + (t->packed != NULL) + (t->parts != NULL) == 1);
    TRY(gguf_check_name(t->name, "tensor name", GGUF_NAME_BYTES_MAX, err));
    TRY(gguf_size_tensor(t, err));
    if (t->packed != NULL) TRY(check_packed(t, t->packed, err));
    if (t->parts != NULL) TRY(check_parts(t, err));
    return check_halves(t, err);
}

/* So that nobody has to keep the structs, only the bytes they point to. */
static void copy_parts(gguf_maker *g, gguf_tensor *t) {
    const size_t count = (size_t)t->dims[2];
    gguf_part *parts = copy(g, t->parts, count * sizeof *parts);
    for (size_t i = 0; parts != NULL && i < count; i++)
        if (parts[i].packed != NULL)
            parts[i].packed = copy(g, parts[i].packed, sizeof *parts[i].packed);
    t->parts = parts;
}

void gguf_make_tensor(gguf_maker *g, const gguf_tensor *given) {
    error err = {0};
    if (g->st != OK) return; /* the data may be memory that was not there */
    gguf_tensor t = *given;
    const status st = check_tensor(&t, &err);
    keep(g, st, &err);
    if (st != OK) return;
    t.offset = 0;
    t.name.p = copy(g, t.name.p, t.name.n);
    if (t.packed != NULL) t.packed = copy(g, t.packed, sizeof *t.packed);
    if (t.parts != NULL) copy_parts(g, &t);
    buf_put(&g->tensors, &t, sizeof t);
}

/* --- finish ---------------------------------------------------------------------- */
static status sum_bytes(gguf *g, error *err) {
    for (uint32_t i = 0; i < g->tensors_count; i++)
        if (!num_add_u64(&g->file_bytes, g->file_bytes, g->tensors[i].bytes))
            return error_set(err, ERR_FORMAT, "gguf: tensors up to '%.*s' have over 2^64 bytes",
                             STR(g->tensors[i].name));
    return OK;
}

/* Gives what the buffer holds to the description; `one` bytes each. */
static void *hand_over(buf *b, size_t one, uint32_t *count) {
    void *p = b->p;
    *count = (uint32_t)(b->n / one);
    *b = (buf){0};
    return p;
}

static status finish(gguf_maker *g, error *err) {
    gguf *made = g->g;
    if (g->st != OK) {
        if (err != NULL) *err = g->err;
        return g->st;
    }
    TRY(buf_status(&g->kv, "gguf: key-values", err));
    TRY(buf_status(&g->tensors, "gguf: tensors", err));
    made->kv = hand_over(&g->kv, sizeof *made->kv, &made->kv_count);
    made->tensors = hand_over(&g->tensors, sizeof *made->tensors, &made->tensors_count);
    TRY(gguf_index_kvs(made, err));
    TRY(gguf_index_tensors(made, err));
    TRY(gguf_read_alignment(made, err));
    return sum_bytes(made, err);
}

status gguf_make_finish(gguf_maker *g, gguf **out, error *err) {
    const status st = finish(g, err);
    if (st == OK) {
        *out = g->g;
        g->g = NULL;
    }
    gguf_make_destroy(g);
    return st;
}
