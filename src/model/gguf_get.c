/* gguf_get.c - typed access to GGUF values: checked getters, arrays, strings. */
#include <float.h>
#include <inttypes.h>

#include "base/assert.h"
#include "model/gguf_internal.h"

const char *gguf_type_name(gguf_type t) {
    static const char *const names[] = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                        "bool", "string", "array", "u64", "i64", "f64"};
    return (uint32_t)t <= GGUF_TYPE_F64 ? names[t] : "?";
}

static bool is_unsigned(gguf_type t) {
    return t == GGUF_TYPE_U8 || t == GGUF_TYPE_U16 || t == GGUF_TYPE_U32 || t == GGUF_TYPE_U64;
}

static bool is_signed(gguf_type t) {
    return t == GGUF_TYPE_I8 || t == GGUF_TYPE_I16 || t == GGUF_TYPE_I32 || t == GGUF_TYPE_I64;
}

static status absent(str key, error *err) {
    return error_set(err, ERR_NOT_FOUND, "gguf: key '%.*s' is missing", STR(key));
}

static status mismatch(const gguf_value *v, const char *want, error *err) {
    return error_set(err, ERR_FORMAT, "gguf: '%.*s' is %s, must be %s", STR(v->key),
                     gguf_type_name(v->type), want);
}

/* --- scalars --------------------------------------------------------------- */
status gguf_get_u32(const gguf *g, str key, uint32_t *out, error *err) {
    const gguf_value *v = gguf_kv_find(g, key);
    if (v == NULL) return absent(key, err);
    if (is_signed(v->type) && v->as.i64 < 0)
        return error_set(err, ERR_FORMAT, "gguf: '%.*s' is %" PRId64 ", must be 0 to %" PRIu32,
                         STR(key), v->as.i64, UINT32_MAX);
    if (!is_signed(v->type) && !is_unsigned(v->type)) return mismatch(v, "an integer", err);
    uint64_t n = is_signed(v->type) ? (uint64_t)v->as.i64 : v->as.u64;
    if (n > UINT32_MAX)
        return error_set(err, ERR_FORMAT, "gguf: '%.*s' is %" PRIu64 ", must be 0 to %" PRIu32,
                         STR(key), n, UINT32_MAX);
    *out = (uint32_t)n;
    return OK;
}

status gguf_get_f32(const gguf *g, str key, float *out, error *err) {
    const gguf_value *v = gguf_kv_find(g, key);
    if (v == NULL) return absent(key, err);
    if (v->type != GGUF_TYPE_F32 && v->type != GGUF_TYPE_F64) return mismatch(v, "f32", err);
    if (!(v->as.f64 >= -(double)FLT_MAX && v->as.f64 <= (double)FLT_MAX)) /* NaN too */
        return error_set(err, ERR_FORMAT, "gguf: '%.*s' is %g, must be finite in f32", STR(key),
                         v->as.f64);
    *out = (float)v->as.f64;
    return OK;
}

status gguf_get_str(const gguf *g, str key, str *out, error *err) {
    const gguf_value *v = gguf_kv_find(g, key);
    if (v == NULL) return absent(key, err);
    if (v->type != GGUF_TYPE_STRING) return mismatch(v, "string", err);
    *out = v->as.string;
    return OK;
}

status gguf_get_bool(const gguf *g, str key, bool *out, error *err) {
    const gguf_value *v = gguf_kv_find(g, key);
    if (v == NULL) return absent(key, err);
    if (v->type != GGUF_TYPE_BOOL) return mismatch(v, "bool", err);
    *out = v->as.boolean;
    return OK;
}

status gguf_get_array(const gguf *g, str key, gguf_type type, gguf_array *out, error *err) {
    const gguf_value *v = gguf_kv_find(g, key);
    if (v == NULL) return absent(key, err);
    if (v->type != GGUF_TYPE_ARRAY) return mismatch(v, "array", err);
    if (v->as.array.type != type)
        return error_set(err, ERR_FORMAT, "gguf: '%.*s' is an array of %s, must be of %s", STR(key),
                         gguf_type_name(v->as.array.type), gguf_type_name(type));
    *out = v->as.array;
    return OK;
}

status gguf_get_u32_or(const gguf *g, str key, uint32_t fallback, uint32_t *out, error *err) {
    if (gguf_kv_find(g, key) != NULL) return gguf_get_u32(g, key, out, err);
    *out = fallback;
    return OK;
}

status gguf_get_f32_or(const gguf *g, str key, float fallback, float *out, error *err) {
    if (gguf_kv_find(g, key) != NULL) return gguf_get_f32(g, key, out, err);
    *out = fallback;
    return OK;
}

status gguf_get_bool_or(const gguf *g, str key, bool fallback, bool *out, error *err) {
    if (gguf_kv_find(g, key) != NULL) return gguf_get_bool(g, key, out, err);
    *out = fallback;
    return OK;
}

/* --- arrays ---------------------------------------------------------------- */
gguf_value gguf_array_get(const gguf_array *a, uint64_t i) {
    ASSERT(i < a->count && a->type != GGUF_TYPE_STRING && a->type != GGUF_TYPE_ARRAY);
    gguf_value v = {.key = S("")};
    gguf_decode(a->type, (const unsigned char *)a->data + i * gguf_type_bytes(a->type), &v);
    return v;
}

float gguf_array_f32(const gguf_array *a, uint64_t i) {
    ASSERT(a->type == GGUF_TYPE_F32);
    return (float)gguf_array_get(a, i).as.f64;
}

int32_t gguf_array_i32(const gguf_array *a, uint64_t i) {
    ASSERT(a->type == GGUF_TYPE_I32);
    return (int32_t)gguf_array_get(a, i).as.i64;
}

gguf_strings gguf_strings_of(const gguf_array *a) {
    ASSERT(a->type == GGUF_TYPE_STRING);
    return (gguf_strings){a->data, a->count};
}

/* The lengths were checked when the file was opened. */
bool gguf_strings_next(gguf_strings *it, str *out) {
    if (it->left == 0) return false;
    uint64_t n = 0;
    memcpy(&n, it->p, sizeof n);
    *out = (str){(const char *)it->p + sizeof n, (size_t)n};
    it->p += sizeof n + n;
    it->left--;
    return true;
}
