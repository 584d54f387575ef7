/* gguf_kv.c - the byte cursor and the key-value section of a GGUF file. */
#include <inttypes.h>

#include "base/alloc.h"
#include "base/num.h"
#include "model/gguf_internal.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "GGUF fields are copied as they are");

/* --- cursor ---------------------------------------------------------------- */
/* The next n bytes, which are then read. */
static status take(gguf_cursor *c, const char *what, uint64_t n, const unsigned char **out,
                   error *err) {
    if (n > c->left)
        return error_set(err, ERR_FORMAT,
                         "gguf: file ends inside %s: %" PRIu64 " bytes needed, %" PRIu64 " left",
                         what, n, c->left);
    *out = c->p;
    c->p += n;
    c->left -= n;
    return OK;
}

status gguf_read_u32(gguf_cursor *c, const char *what, uint32_t *out, error *err) {
    const unsigned char *p = NULL;
    TRY(take(c, what, sizeof *out, &p, err));
    memcpy(out, p, sizeof *out);
    return OK;
}

status gguf_read_u64(gguf_cursor *c, const char *what, uint64_t *out, error *err) {
    const unsigned char *p = NULL;
    TRY(take(c, what, sizeof *out, &p, err));
    memcpy(out, p, sizeof *out);
    return OK;
}

status gguf_read_str(gguf_cursor *c, const char *what, str *out, error *err) {
    uint64_t n = 0;
    const unsigned char *p = NULL;
    TRY(gguf_read_u64(c, what, &n, err));
    TRY(take(c, what, n, &p, err));
    *out = (str){(const char *)p, (size_t)n};
    return OK;
}

status gguf_check_name(str name, const char *what, size_t bytes_max, error *err) {
    if (name.n == 0) return error_set(err, ERR_FORMAT, "gguf: empty %s", what);
    if (name.n > bytes_max)
        return error_set(err, ERR_LIMIT, "gguf: %s of %zu bytes, at most %zu", what, name.n,
                         bytes_max);
    if (str_has_control(name) || !str_is_utf8(name))
        return error_set(err, ERR_FORMAT, "gguf: %s of %zu bytes is not printable UTF-8", what,
                         name.n);
    return OK;
}

status gguf_read_name(gguf_cursor *c, const char *what, size_t bytes_max, str *out, error *err) {
    str name;
    TRY(gguf_read_str(c, what, &name, err));
    TRY(gguf_check_name(name, what, bytes_max, err));
    *out = name;
    return OK;
}

/* --- scalars --------------------------------------------------------------- */
uint32_t gguf_type_bytes(gguf_type t) {
    static const uint32_t sizes[] = {
#define GGUF_TYPE_SIZE(name, id, bytes) [id] = (bytes),
        GGUF_TYPES(GGUF_TYPE_SIZE)
#undef GGUF_TYPE_SIZE
    };
    return sizes[t];
}

static bool type_is_known(uint32_t id) { return id <= GGUF_TYPE_F64; }

static uint64_t decode_unsigned(const unsigned char *p, uint32_t bytes) {
    uint64_t v = 0;
    memcpy(&v, p, bytes);
    return v;
}

static int64_t decode_signed(const unsigned char *p, uint32_t bytes) {
    uint32_t shift = 64 - 8 * bytes; /* the sign bit to the top and back */
    return (int64_t)(decode_unsigned(p, bytes) << shift) >> shift;
}

static double decode_float(const unsigned char *p, uint32_t bytes) {
    float f = 0;
    double d = 0;
    if (bytes == sizeof d) {
        memcpy(&d, p, sizeof d);
        return d;
    }
    memcpy(&f, p, sizeof f);
    return (double)f;
}

void gguf_decode(gguf_type t, const unsigned char *p, gguf_value *out) {
    uint32_t bytes = gguf_type_bytes(t);
    out->type = t;
    switch (t) {
    case GGUF_TYPE_I8:
    case GGUF_TYPE_I16:
    case GGUF_TYPE_I32:
    case GGUF_TYPE_I64:
        out->as.i64 = decode_signed(p, bytes);
        break;
    case GGUF_TYPE_F32:
    case GGUF_TYPE_F64:
        out->as.f64 = decode_float(p, bytes);
        break;
    case GGUF_TYPE_BOOL:
        out->as.boolean = *p != 0; /* a byte: some writers store others than 0 and 1 */
        break;
    case GGUF_TYPE_U8:
    case GGUF_TYPE_U16:
    case GGUF_TYPE_U32:
    case GGUF_TYPE_U64:
        out->as.u64 = decode_unsigned(p, bytes);
        break;
    case GGUF_TYPE_STRING:
    case GGUF_TYPE_ARRAY:
        break;
    }
}

/* --- arrays ---------------------------------------------------------------- */
/* Strings carry their lengths, so finding the end means walking them. */
static status walk_strings(gguf_cursor *c, str key, uint64_t count, error *err) {
    enum { STRING_BYTES_MIN = 8 };
    str ignored;
    if (count > c->left / STRING_BYTES_MIN)
        return error_set(err, ERR_FORMAT,
                         "gguf: '%.*s' announces %" PRIu64 " strings, %" PRIu64 " bytes left",
                         STR(key), count, c->left);
    for (uint64_t i = 0; i < count; i++) TRY(gguf_read_str(c, "a string array", &ignored, err));
    return OK;
}

static status take_elements(gguf_cursor *c, str key, gguf_type type, uint64_t count, error *err) {
    const unsigned char *p = c->p;
    uint64_t bytes = 0;
    if (type == GGUF_TYPE_STRING) return walk_strings(c, key, count, err);
    if (!num_mul_u64(&bytes, count, gguf_type_bytes(type)) || bytes > c->left)
        return error_set(err, ERR_FORMAT,
                         "gguf: '%.*s' announces %" PRIu64 " elements of %u bytes, %" PRIu64
                         " bytes left",
                         STR(key), count, gguf_type_bytes(type), c->left);
    return take(c, "an array", bytes, &p, err);
}

static status read_array(gguf_cursor *c, str key, gguf_array *out, error *err) {
    uint32_t type = 0;
    uint64_t count = 0;
    TRY(gguf_read_u32(c, "an array's element type", &type, err));
    TRY(gguf_read_u64(c, "an array's length", &count, err));
    if (type == GGUF_TYPE_ARRAY)
        return error_set(err, ERR_UNSUPPORTED, "gguf: '%.*s' is an array of arrays", STR(key));
    if (!type_is_known(type))
        return error_set(err, ERR_FORMAT, "gguf: '%.*s' has element type %u, types end at %u",
                         STR(key), type, GGUF_TYPE_F64);
    const unsigned char *begin = c->p;
    TRY(take_elements(c, key, (gguf_type)type, count, err));
    *out = (gguf_array){(gguf_type)type, count, begin, (uint64_t)(c->p - begin)};
    return OK;
}

/* --- key-values ------------------------------------------------------------ */
static status read_value(gguf_cursor *c, gguf_value *v, error *err) {
    const unsigned char *p = NULL;
    if (v->type == GGUF_TYPE_STRING) return gguf_read_str(c, "a string value", &v->as.string, err);
    if (v->type == GGUF_TYPE_ARRAY) return read_array(c, v->key, &v->as.array, err);
    TRY(take(c, "a value", gguf_type_bytes(v->type), &p, err));
    gguf_decode(v->type, p, v);
    return OK;
}

static status read_kv(gguf_cursor *c, gguf_value *v, error *err) {
    uint32_t type = 0;
    TRY(gguf_read_name(c, "key", GGUF_KEY_BYTES_MAX, &v->key, err));
    TRY(gguf_read_u32(c, "a value type", &type, err));
    if (!type_is_known(type))
        return error_set(err, ERR_FORMAT, "gguf: '%.*s' has value type %u, types end at %u",
                         STR(v->key), type, GGUF_TYPE_F64);
    v->type = (gguf_type)type;
    return read_value(c, v, err);
}

status gguf_index_kvs(gguf *g, error *err) {
    TRY(map_init(&g->kv_index, g->kv_count, err));
    for (uint32_t i = 0; i < g->kv_count; i++)
        if (!map_add(&g->kv_index, g->kv[i].key, i))
            return error_set(err, ERR_FORMAT, "gguf: key '%.*s' appears twice, at %u and before",
                             STR(g->kv[i].key), i);
    return OK;
}

status gguf_read_kvs(gguf *g, gguf_cursor *c, error *err) {
    g->kv = mem_try_calloc(g->kv_count, sizeof *g->kv);
    if (g->kv == NULL)
        return error_set(err, ERR_NOMEM, "gguf: no memory for %u key-values", g->kv_count);
    for (uint32_t i = 0; i < g->kv_count; i++) TRY(read_kv(c, &g->kv[i], err));
    return gguf_index_kvs(g, err);
}
