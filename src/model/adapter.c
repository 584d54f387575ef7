/* adapter.c - see adapter.h: pairs by name, and what must hold between their halves. */
#include "model/adapter.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/num.h"
#include "model/adapter_internal.h"
#include "model/hf_dir.h"

#define ADAPTER_ARENA_BYTES_MAX ((size_t)1 << 30)

enum { ADAPTER_PATH_BYTES = 4096 + 64 };

/* --- pairs -------------------- */

static status grow(adapter *a, error *err) {
    if (a->count < a->cap) return OK;
    uint32_t cap = a->cap == 0 ? 256 : a->cap * 2;
    adapter_pair *pairs = NULL;
    if (a->count < ADAPTER_PAIRS_MAX) pairs = mem_try_realloc(a->pairs, cap * sizeof *pairs);
    if (pairs == NULL)
        return error_set(err, ERR_LIMIT, "lora: more than %u matrices, or no memory", a->count);
    a->pairs = pairs;
    a->cap = cap;
    return OK;
}

static status find_pair(adapter *a, str tensor, adapter_pair **out, error *err) {
    uint32_t at = 0;
    if (!map_get(&a->index, tensor, &at)) {
        TRY(grow(a, err));
        at = a->count;
        str name = arena_dup(&a->arena, tensor);
        if (name.p == NULL) return error_set(err, ERR_NOMEM, "lora: no memory for names");
        a->pairs[at] = (adapter_pair){.tensor = name};
        (void)map_add(&a->index, name, at);
        a->count++;
    }
    *out = &a->pairs[at];
    return OK;
}

static status check_type(str tensor, const model_tensor *t, error *err) {
    if (t->type == DTYPE_F32 || t->type == DTYPE_F16 || t->type == DTYPE_BF16) return OK;
    return error_set(err, ERR_UNSUPPORTED,
                     "lora: matrices of '%.*s' are %s; F32, F16 and BF16 can be used", STR(tensor),
                     dtype_name(t->type));
}

status adapter_add(adapter *a, str tensor, adapter_half half, const model_tensor *t, error *err) {
    adapter_pair *pair = NULL;
    TRY(check_type(tensor, t, err));
    TRY(find_pair(a, tensor, &pair, err));
    model_tensor *place = half == ADAPTER_A ? &pair->a : &pair->b;
    if (place->data != NULL)
        return error_set(err, ERR_FORMAT, "lora: '%.*s' has two matrices %s", STR(tensor),
                         half == ADAPTER_A ? "A" : "B");
    *place = *t;
    return OK;
}

/* --- checks -------------------- */

static status check_pair(const adapter_pair *p, error *err) {
    if (p->a.data == NULL || p->b.data == NULL)
        return error_set(err, ERR_FORMAT, "lora: '%.*s' has no matrix %s", STR(p->tensor),
                         p->a.data == NULL ? "A" : "B");
    if (p->a.rows != p->b.cols)
        return error_set(err, ERR_FORMAT,
                         "lora: '%.*s': matrix A has rank %u, matrix B has rank %u", STR(p->tensor),
                         p->a.rows, p->b.cols);
    if (p->a.rows == 0 || p->a.rows > ADAPTER_RANK_MAX)
        return error_set(err, ERR_LIMIT, "lora: '%.*s' has rank %u, want 1 to %d", STR(p->tensor),
                         p->a.rows, ADAPTER_RANK_MAX);
    if (!isfinite(p->scale))
        return error_set(err, ERR_FORMAT, "lora: '%.*s' has scale %g", STR(p->tensor),
                         (double)p->scale);
    return OK;
}

static status check(const adapter *a, error *err) {
    if (a->count == 0) return error_set(err, ERR_FORMAT, "lora: the adapter has no matrices");
    for (uint32_t i = 0; i < a->count; i++) TRY(check_pair(&a->pairs[i], err));
    return OK;
}

/* --- life cycle -------------------- */

static status create(adapter **out, const model *m, error *err) {
    adapter *a = mem_try_calloc(1, sizeof *a);
    if (a == NULL) return error_set(err, ERR_NOMEM, "lora: no memory");
    a->m = m;
    arena_init(&a->arena, ADAPTER_ARENA_BYTES_MAX);
    status st = map_init(&a->index, ADAPTER_PAIRS_MAX, err);
    if (st == OK)
        *out = a;
    else
        adapter_close(a);
    return st;
}

/* Everything is read with status `st`; the adapter is checked and given, or gone. */
static status finish(adapter *a, status st, adapter **out, error *err) {
    if (st == OK) st = check(a, err);
    a->m = NULL;
    if (st == OK)
        *out = a;
    else
        adapter_close(a);
    return st;
}

static status read_gguf(adapter *a, error *err) {
    float alpha = 0;
    TRY(adapter_read_gguf(a, &alpha, err));
    for (uint32_t i = 0; i < a->count; i++) {
        uint32_t rank = a->pairs[i].a.rows;
        a->pairs[i].scale = alpha != 0 && rank > 0 ? alpha / (float)rank : 1;
    }
    return OK;
}

static status join(char out[ADAPTER_PATH_BYTES], const char *dir, const char *file, error *err) {
    int n = snprintf(out, ADAPTER_PATH_BYTES, "%s/%s", dir, file);
    if (n >= 0 && n < ADAPTER_PATH_BYTES) return OK;
    return error_set(err, ERR_LIMIT, "lora: the path is longer than %d bytes", ADAPTER_PATH_BYTES);
}

static status read_dir(adapter *a, const char *dir, error *err) {
    char path[ADAPTER_PATH_BYTES];
    blob *config = NULL;
    TRY(join(path, dir, "adapter_config.json", err));
    TRY(blob_open_file(&config, path, err));
    status st = join(path, dir, "adapter_model.safetensors", err);
    if (st == OK) st = safetensors_open(&a->tensors, path, err);
    if (st == OK) st = adapter_read_peft(a, blob_view(config), err);
    blob_close(config);
    return st;
}

status adapter_open(adapter **out, const model *m, const char *path, error *err) {
    adapter *a = NULL;
    TRY(create(&a, m, err));
    if (hf_dir_is(path)) return finish(a, read_dir(a, path, err), out, err);
    status st = blob_open_file(&a->file, path, err);
    if (st == OK) st = read_gguf(a, err);
    return finish(a, st, out, err);
}

status adapter_open_gguf_bytes(adapter **out, const model *m, str file, error *err) {
    adapter *a = NULL;
    TRY(create(&a, m, err));
    status st = blob_open_memory(&a->file, file, "adapter", err);
    if (st == OK) st = read_gguf(a, err);
    return finish(a, st, out, err);
}

status adapter_open_peft_bytes(adapter **out, const model *m, str config, str tensors, error *err) {
    adapter *a = NULL;
    TRY(create(&a, m, err));
    status st = safetensors_open_bytes(&a->tensors, tensors, "adapter", err);
    if (st == OK) st = adapter_read_peft(a, config, err);
    return finish(a, st, out, err);
}

void adapter_close(adapter *a) {
    if (a == NULL) return;
    map_deinit(&a->index);
    mem_free(a->pairs);
    arena_deinit(&a->arena);
    gguf_close(a->gguf);
    blob_close(a->file);
    safetensors_close(a->tensors);
    mem_free(a);
}

/* --- introspection -------------------- */

uint32_t adapter_count(const adapter *a) { return a->count; }
const adapter_pair *adapter_get(const adapter *a, uint32_t idx) { return &a->pairs[idx]; }

uint32_t adapter_rank(const adapter *a) {
    uint32_t rank = 0;
    for (uint32_t i = 0; i < a->count; i++) rank = num_max_u32(rank, a->pairs[i].a.rows);
    return rank;
}

uint64_t adapter_bytes(const adapter *a) {
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < a->count; i++) bytes += a->pairs[i].a.bytes + a->pairs[i].b.bytes;
    return bytes;
}
